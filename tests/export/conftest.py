"""Facts of models, and configurations at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import ConfigError
from autokv.models.facts import ModelFacts

FACTS = ModelFacts(
    name="org/small",
    architecture="LlamaForCausalLM",
    model_type="llama",
    layers=6,
    query_heads=8,
    kv_heads=2,
    head_dim=64,
    layer_kinds=("full",) * 6,
    sliding_window=None,
    rope={},
    context_tokens=4096,
    parameters=1_000_000,
    hidden_size=512,
    vocab_size=1000,
)
SLIDING = replace(FACTS, model_type="gemma2", layer_kinds=("full", "sliding") * 3, sliding_window=512)
FORMATS: tuple[dict[str, Any], ...] = (
    *({"format": name} for name in ("f32", "f16", "bf16", "fp8_e4m3", "fp8_e5m2", "mxfp8", "nvfp4", "mxfp4")),
    *({"format": name} for name in ("fp4_mx_block16", "ultraquant_4bit", "int8_per_token_head", "iq4_nl")),
    *({"format": name, "rotation": "none"} for name in ("q8_0", "q5_1", "q4_0", "q4_1")),
    *({"format": name} for name in ("q8_0", "q5_0", "q4_0", "int4_per_token_head", "openvino_u8", "openvino_u4")),
    {"format": "q4_0", "rotation_channels": 64},
    {"format": "openvino_u4", "group_size": 32},
    {"format": "fp8_e4m3", "scaling": "token_head"},
    {"format": "fp8_e4m3", "rounding": "truncate"},
    {"format": "fp8_e4m3", "scale": 0.05},
    {"format": "fp8_e4m3", "scale": [0.05, 0.1]},
    {"format": "ultraquant_4bit", "rotation": "hadamard"},
    {"format": "nvfp4", "scale_search": "four_over_six"},
    {"format": "turboquant_key", "bits": 3},
    {"format": "turboquant_key", "bits": 4},
    {"format": "turboquant_value", "bits": 4},
    {"format": "static_int8", "scaling": "tensor", "scale": 0.1},
    {"format": "mlx_affine", "bits": 5, "group_size": 32},
    {"format": "integer", "bits": 3, "axis": "token", "group_size": 16, "rotation": "hadamard"},
    # Those below share scales between tokens.
    {"format": "quanto", "bits": 4, "axis": -1},
    {"format": "hqq", "bits": 2, "group_size": 16},
    {"format": "fp8_e4m3", "scaling": "tensor"},
    {"format": "static_int4"},
    {"format": "integer", "bits": 4, "axis": "channel", "group_size": 32},
    {"format": "openvino_u8", "quant_mode": "by_channel"},
)
WRITES: tuple[object, ...] = (
    "after_prefill",
    {"rule": "after_prefill", "prompt_window": False},
    "on_write",
    {"rule": "on_write", "own_chunk": "exact", "chunk_tokens": 512},
)
EVICTIONS = ("snapkv", "knorm", "keydiff", "tova", "h2o", "expected_attention", "lagkv", "random", "streaming_llm")


def random_config(seed: int) -> CompressionConfig:
    """A valid configuration of any kind."""
    pick = random.Random(seed)
    while True:
        pipeline: dict[str, Any] = {}
        if pick.random() < 0.4:
            pipeline["eviction"] = {
                "method": pick.choice(EVICTIONS),
                **pick.choice(({"keep_ratio": pick.choice((0.2, 0.5, 0.85, 1.0))}, {"keep_tokens": 512})),
                "sink_tokens": pick.choice((0, 4)),
                "recent_tokens": pick.choice((0, 64)),
                "layer_budget": pick.choice(("uniform", "pyramid")),
                "head_budget": pick.choice(("uniform", "adaptive")),
            }
        pipeline["quantization"] = _quantization(pick)
        if pick.random() < 0.2:
            pipeline["low_rank"] = {"method": pick.choice(("latent", "residual")), "key_rank": 4, "value_rank": 0}
        pipeline["write"] = pick.choice(
            (
                "after_prefill",
                "on_write",
                {"rule": "after_prefill", "prompt_window": False},
                {"rule": "on_write", "own_chunk": "exact", "chunk_tokens": 512},
            )
        )
        try:
            return CompressionConfig.parse({"pipeline": pipeline})
        except ConfigError:
            continue


def _quantization(pick: random.Random) -> dict[str, Any]:
    kind, window = pick.random(), pick.choice((0, 0, 64))
    if kind < 0.1:
        return {"method": "none"}
    rotation = pick.choice(("none", "hadamard"))
    if kind < 0.2:
        return {"method": "fp8", "rotation": rotation, "residual_tokens": window}
    if kind < 0.4:
        sides = {
            side: {"bits": pick.choice((2, 3, 4, 8)), "axis": pick.choice(("token", "channel")), "group_size": 32}
            for side in ("key", "value")
        }
        return {"method": "integer", **sides, "rotation": rotation, "residual_tokens": window}
    key = pick.choice(FORMATS)
    value = key if pick.random() < 0.5 else pick.choice(FORMATS)
    layers = [
        {"layers": pick.choice(([0, 1], [3], "sliding_window")), "key": form, "value": form}
        for form in pick.sample((FORMATS[2], FORMATS[3], FORMATS[16]), pick.choice((0, 0, 1, 2)))
    ]
    return {"method": "format", "key": key, "value": value, "layers": layers, "residual_tokens": window}


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    return FACTS


@pytest.fixture(scope="session")
def sliding() -> ModelFacts:
    return SLIDING


@pytest.fixture(scope="session")
def configs() -> list[CompressionConfig]:
    """200 different ones."""
    found: dict[str, CompressionConfig] = {}
    seed = 0
    while len(found) < 200:
        config = random_config(seed)
        found.setdefault(config.digest, config)
        seed += 1
    return list(found.values())


@pytest.fixture(scope="session")
def formats_config() -> Callable[..., CompressionConfig]:
    def made(key: str | dict[str, Any], value: str | dict[str, Any] | None = None, **more: object) -> CompressionConfig:
        sides = [{"format": each} if isinstance(each, str) else each for each in (key, value or key)]
        write = more.pop("write", "on_write")
        stage = {"method": "format", "key": sides[0], "value": sides[1], **more}
        return CompressionConfig.parse({"pipeline": {"quantization": stage, "write": write}})

    return made
