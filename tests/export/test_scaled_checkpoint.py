"""Scales that a configuration has, beside the weights of a model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from autokv.config import CompressionConfig
from autokv.errors import ConfigError
from autokv.export import TARGETS
from autokv.models.facts import ModelFacts

Made = Callable[..., CompressionConfig]


def fp8(scale: Any) -> dict[str, Any]:  # noqa: ANN401 - a number or a list
    return {"format": "fp8_e4m3", "scale": scale}


@pytest.mark.parametrize(
    ("key", "value", "strategy", "expected"),
    [(0.05, 0.02, "tensor", [[0.05], [0.02]]), ([0.05, 0.1], 0.02, "attn_head", [[0.05, 0.1], [0.02, 0.02]])],
)
def test_vllms_checkpoint_has_the_scales_and_the_weights(
    key: object,
    value: object,
    strategy: str,
    expected: list[list[float]],
    formats_config: Made,
    facts: ModelFacts,
    tmp_path: Path,
) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    save_file({"w": torch.arange(4.0)}, source / "model.safetensors", metadata={"format": "pt"})
    (source / "config.json").write_text('{"model_type": "llama"}')
    own = {"layers": [0], "key": fp8(1.5), "value": fp8(2.5)}
    skipped = {"layers": [5], "key": {"format": "bf16"}, "value": {"format": "bf16"}}
    config = formats_config(fp8(key), fp8(value), layers=[own, skipped])
    assert TARGETS["vllm"].hold(config, facts).level == "exact"
    script = next(one for one in TARGETS["vllm"].render(config, facts) if one.name == "make_scaled_checkpoint.py")
    (tmp_path / script.name).write_text(script.text)
    subprocess.run([sys.executable, tmp_path / script.name, source, made], check=True)

    read: dict[str, list[float]] = {}
    index = json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in index.items():
        with safe_open(made / file, "pt") as weights:
            read[name] = weights.get_tensor(name).tolist()
    assert read.pop("w") == [0.0, 1.0, 2.0, 3.0]
    heads = len(expected[0])
    scales = [[[1.5] * heads, [2.5] * heads], *([expected] * 4)]
    assert read == {
        f"model.layers.{layer}.self_attn.{side}_scale": pytest.approx(scale)
        for layer, pair in enumerate(scales)
        for side, scale in zip("kv", pair, strict=True)
    }
    scheme = json.loads((made / "config.json").read_text())["quantization_config"]["kv_cache_scheme"]
    assert scheme == {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}


def test_sglangs_file_has_a_scale_for_every_layer(formats_config: Made, facts: ModelFacts) -> None:
    config = formats_config(fp8(0.05))
    assert TARGETS["sglang"].hold(config, facts).level == "exact"
    assert TARGETS["sglang"].hold(formats_config(fp8(0.05), fp8(0.1)), facts).level == "nearest"
    started, scales = TARGETS["sglang"].render(config, facts, "org/small")
    assert f"--quantization-param-path {scales.name}" in started.text
    document = json.loads(scales.text)
    assert document["model_type"] == "llama"
    assert document["kv_cache"] == {
        "dtype": "float8_e4m3fn",
        "scaling_factor": {"0": {str(layer): 0.05 for layer in range(facts.layers)}},
    }


def test_onnx_runtimes_file_has_channels_in_a_row(formats_config: Made, facts: ModelFacts) -> None:
    scale = [[0.25 + channel + 100 * head for channel in range(facts.head_dim)] for head in range(facts.kv_heads)]
    config = formats_config({"format": "static_int8", "scale": scale})
    assert TARGETS["onnxruntime-genai"].hold(config, facts).level == "exact"
    _, file = TARGETS["onnxruntime-genai"].render(config, facts, "org/small")
    document = json.loads(file.text)
    assert document["layer_ids"] == list(range(facts.layers))
    assert document["scales"]["k_scales"] == [[each for head in scale for each in head]] * facts.layers


@pytest.mark.parametrize("target", ["vllm", "sglang"])
def test_scales_need_the_models_layers(target: str, formats_config: Made) -> None:
    with pytest.raises(ConfigError, match=r"scales belong to layers.*add --model"):
        TARGETS[target].render(formats_config(fp8(0.05)))
