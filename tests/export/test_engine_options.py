"""Engines' own options, read as what the engine would hold."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.errors import ConfigError, RequestError
from autokv.export import TARGETS, Device, target_named
from autokv.models.facts import ModelFacts

FP8 = {"format": "fp8_e4m3"}
BF16 = {"format": "bf16"}
READ: list[tuple[str, str, dict[str, Any]]] = [
    ("vllm", "--kv-cache-dtype fp8", {"key": FP8, "value": FP8}),
    (
        "vllm",
        "--kv-cache-dtype fp8_e4m3 --kv-cache-dtype-skip-layers 0,1",
        {"key": FP8, "value": FP8, "layers": [{"layers": [0, 1], "key": BF16, "value": BF16}]},
    ),
    (
        "vllm",
        "--kv_cache_dtype=fp8_e5m2 --kv-cache-dtype-skip-layers 3 sliding_window",
        {
            "key": {"format": "fp8_e5m2"},
            "value": {"format": "fp8_e5m2"},
            "layers": [
                {"layers": [3], "key": BF16, "value": BF16},
                {"layers": "sliding_window", "key": BF16, "value": BF16},
            ],
        },
    ),
    ("sglang", "--kv-cache-dtype fp4_mx_block16", {side: {"format": "fp4_mx_block16"} for side in ("key", "value")}),
    ("tensorrt-llm", "kv_cache_config.dtype=fp8", {"key": FP8, "value": FP8}),
    (
        "llama.cpp",
        "-ctk q8_0 -ctv q4_0 -fa on",
        {"key": {"format": "q8_0"}, "value": {"format": "q4_0", "rotation_channels": 64}},
    ),
    (
        "llama.cpp",
        "LLAMA_ARG_CACHE_TYPE_K=q5_1 LLAMA_ATTN_ROT_DISABLE=1",
        {"key": {"format": "q5_1", "rotation": "none"}, "value": {"format": "f16"}},
    ),
    (
        "ollama",
        "OLLAMA_KV_CACHE_TYPE=q8_0",
        {"key": {"format": "q8_0"}, "value": {"format": "q8_0", "rotation_channels": 64}},
    ),
    ("openvino", "KEY_CACHE_QUANT_MODE=BY_TOKEN", {side: {"format": "openvino_u8"} for side in ("key", "value")}),
    (
        "vllm",
        "--kv-cache-dtype fp8_e5m2 --attention-backend CPU_ATTN",
        {side: {"format": "fp8_e5m2", "rounding": "truncate"} for side in ("key", "value")},
    ),
    (
        "openvino",
        "KV_CACHE_PRECISION=u4 VALUE_CACHE_PRECISION=f16 KEY_CACHE_GROUP_SIZE=32 KEY_CACHE_QUANT_MODE=BY_TOKEN",
        {"key": {"format": "openvino_u4", "group_size": 32}, "value": {"format": "f16"}},
    ),
]


@pytest.mark.parametrize(("target", "arguments", "expected"), READ, ids=[f"{one} {two}" for one, two, _ in READ])
def test_what_an_engine_writes_on_write(target: str, arguments: str, expected: dict[str, Any]) -> None:
    document = {"pipeline": {"quantization": {"method": "format", **expected}, "write": "on_write"}}
    assert TARGETS[target].parse(shlex.split(arguments)) == CompressionConfig.parse(document)


def test_turboquant_leaves_the_ends_out_and_reads_its_own_chunk_exactly() -> None:
    arguments = ["--kv-cache-dtype", "turboquant_3bit_nc", "--max-num-batched-tokens", "512"]
    config = TARGETS["vllm"].parse(arguments)
    pipeline = config.pipeline.model_dump(mode="json")
    assert pipeline["write"] == {"rule": "on_write", "own_chunk": "exact", "chunk_tokens": 512}
    assert [entry["layers"] for entry in pipeline["quantization"]["layers"]] == [[0, 1, -2, -1]]
    assert TARGETS["vllm"].arguments(config) == arguments


def test_transformers_options_are_its_cache_config() -> None:
    text = '{"backend": "quanto", "nbits": 2, "axis_key": -1, "residual_length": 32}'
    config = TARGETS["transformers"].parse([text])
    stage = config.pipeline.quantization.model_dump(mode="json")
    assert config.pipeline.write.model_dump() == {"rule": "after_prefill", "prompt_window": False}
    assert (stage["key"], stage["value"], stage["residual_tokens"]) == (
        {"format": "quanto", "bits": 2, "axis": -1, "group_size": 64},
        {"format": "quanto", "bits": 2, "axis": 0, "group_size": 64},
        32,
    )
    # A shell that took the quotes apart leaves the words.
    assert TARGETS["transformers"].parse(shlex.split(f"'{text}'")) == config


def test_kvpress_options_are_a_press() -> None:
    config = TARGETS["kvpress"].parse(["press=SnapKVPress", "compression_ratio=0.75", "window_size=32"])
    stage = config.pipeline.eviction.model_dump(mode="json")
    assert (stage["method"], stage["keep_ratio"], stage["options"]) == ("snapkv", 0.25, {"window": 32, "kernel": 5})
    assert (stage["sink_tokens"], stage["recent_tokens"]) == (0, 0)
    adaptive = ["press=KnormPress", "wrapper=AdaKVPress", "compression_ratio=0.5"]
    assert TARGETS["kvpress"].parse(adaptive).pipeline.eviction.head_budget == "adaptive"  # type: ignore[union-attr]


@pytest.mark.parametrize("target", TARGETS)
def test_no_option_is_the_engines_usual(target: str) -> None:
    if target == "openvino":
        with pytest.raises(ConfigError, match="by channel"):
            TARGETS[target].parse([])
    elif target != "autokv":
        assert TARGETS[target].parse([]) == CompressionConfig()


BAD = [
    ("vllm", "--kv-cache-dtype int3", "int3", "known are auto"),
    ("vllm", "--kv-cache-dtypes fp8", "--kv-cache-dtypes", "did you mean --kv-cache-dtype"),
    ("vllm", "--model m --kv-cache-dtype fp8", "--model", "known are"),
    ("vllm", "--kv-cache-dtype", "dtype has no value", "give one"),
    ("vllm", "--kv-cache-dtype fp8 --kv-cache-dtype fp8", "twice", "once"),
    ("vllm", "--kv-cache-dtype fp8_ds_mla", "multi-head latent", "choose another"),
    ("vllm", "--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers last", "last", "whole number"),
    ("sglang", "--kv-cache-dtype fp8", "fp8", "fp8_e4m3"),
    ("tensorrt-llm", "kv_cache_config.dtype=int8", "int8", "nvfp4"),
    ("llama.cpp", "-ctk q3_0", "q3_0", "q8_0"),
    ("llama.cpp", "-ctv q4_0 -fa off", "flash attention", "--flash-attn on"),
    ("ollama", "OLLAMA_KV_CACHE_TYPE=q5_0", "q5_0", "q4_0"),
    ("ollama", "OLLAMA_KV_CACHE_TYPE=q8_0 OLLAMA_FLASH_ATTENTION=0", "flash attention", "OLLAMA_FLASH_ATTENTION=1"),
    ("openvino", "KV_CACHE_PRECISION=i2", "i2", "u4"),
    ("openvino", "KEY_CACHE_QUANT_MODE=BY_CHANNEL", "by channel", "BY_TOKEN"),
    ("openvino", "KEY_CACHE_GROUP_SIZE=3", "odd", "even"),
    ("transformers", "quanto", "JSON object", '"backend"'),
    ("transformers", """'{"backend": "quanto", "nbits": 8}'""", "8", "2, 4"),
    ("transformers", """'{"backend": "fp8", "nbits": 8}'""", "nbits", "backend"),
    ("transformers", """'{"backend": "hqq", "q_group_size": "64"}'""", "64", "whole number"),
    ("onnxruntime-genai", "kv_cache_quant_type=fp8_per_channel", "per channel", "fp8_per_tensor"),
    ("mlx-lm", "--kv-bits 4", "5000", "--quantized-kv-start 0"),
    ("mlx-lm", "--kv-bits 7 --quantized-kv-start 0", "7", "8"),
    ("lmcache", "remote_serde=kivi", "empty stub", "naive"),
    ("lmcache", "remote_serde=cachegen", "cannot be judged", "naive"),
    ("kvpress", "press=ThinKPress", "ThinKPress", "SnapKVPress"),
    ("kvpress", "press=KnormPress compression_ratio=1.5", "1.5", "below 1"),
    ("kvpress", "press=KnormPress window_size=3", "window_size", "known are"),
]


@pytest.mark.parametrize(("target", "arguments", "named", "remedy"), BAD, ids=[f"{one} {two}" for one, two, *_ in BAD])
def test_unknown_options_and_values_are_named_with_what_is_known(
    target: str, arguments: str, named: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        TARGETS[target].parse(shlex.split(arguments))
    assert named in str(refused.value)
    assert remedy in (refused.value.remedy or "")
    assert refused.value.field is not None
    assert refused.value.field.startswith("--engine-args")


def test_unknown_targets_and_devices_are_named() -> None:
    with pytest.raises(RequestError, match=r"'vlm' is no target; did you mean vllm"):
        target_named("vlm")
    with pytest.raises(RequestError, match="known are vllm, sglang"):
        target_named("triton-inference-server")
    with pytest.raises(RequestError, match="'h100' is no device"):
        Device.parse("h100")
    assert [Device.parse(name).capability for name in ("sm89", "8.9", "sm_120", "12.0", "cpu")] == [89, 89, 120, 120, 0]


def test_vllms_arguments_are_wrapped_for_what_starts_it(
    formats_config: Callable[..., CompressionConfig], facts: ModelFacts
) -> None:
    import yaml

    layers = [{"layers": [-1, 0], "key": BF16, "value": BF16}]
    held = TARGETS["vllm"].hold(formats_config(FP8, layers=layers), facts).held
    files = {one.name: one.text for one in TARGETS["vllm"].render(held, facts, "org/small")}
    own = ["--kv-cache-dtype", "fp8_e4m3", "--kv-cache-dtype-skip-layers", "5", "0"]
    assert files["vllm-serve.sh"] == f"vllm serve org/small {' '.join(own)}\n"
    documents = {name: yaml.safe_load(text) for name, text in files.items() if name.endswith(".yaml")}
    container = documents["deployment.yaml"]["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--model", "org/small", *own]
    stack = documents["production-stack-values.yaml"]["servingEngineSpec"]["modelSpec"][0]
    assert stack["vllmConfig"]["extraArgs"] == own
    assert documents["kserve.yaml"]["spec"]["predictor"]["model"]["args"] == own
    environment = documents["llm-d.yaml"]["spec"]["template"]["containers"][0]["env"]
    assert shlex.split(environment[0]["value"]) == own
    engine = documents["ray-serve.yaml"]["applications"][0]["args"]["llm_configs"][0]["engine_kwargs"]
    assert engine == {"kv_cache_dtype": "fp8_e4m3", "kv_cache_dtype_skip_layers": ["5", "0"]}
    assert documents["vllm-config.yaml"]["kv-cache-dtype"] == "fp8_e4m3"
    with pytest.raises(ConfigError, match=r"counted from the last layer.*add --model"):
        TARGETS["vllm"].render(held, None, "org/small")


def test_python_that_is_written_compiles(configs: list[CompressionConfig], facts: ModelFacts) -> None:
    for target in TARGETS.values():
        for config in configs[:20]:
            for artifact in target.render(target.hold(config, facts).held, facts, "it's/a model"):
                if artifact.kind == "python":
                    compile(artifact.text, artifact.name, "exec")
                if artifact.kind == "json":
                    json.loads(artifact.text)
