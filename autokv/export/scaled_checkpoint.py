"""fp8 scales beside a model's weights: a checkpoint that vLLM reads them from, and SGLang's file."""

from __future__ import annotations

import json
from typing import Any, Final

from autokv.config import CompressionConfig, FormatQuantization
from autokv.errors import ConfigError
from autokv.export.target import Artifact
from autokv.formats import FP8E4M3
from autokv.models.facts import ModelFacts

SCRIPT: Final = '''"""Scales for vLLM's fp8 KV cache beside a model: python make_scaled_checkpoint.py SOURCE DESTINATION

The weights are linked, not copied. With these scales, --kv-cache-dtype auto means fp8 too.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

SCALES = json.loads({scales!r})
SCHEME = {scheme!r}
ADDED, INDEX = "kv-cache-scales.safetensors", "model.safetensors.index.json"

source, made = map(Path, sys.argv[1:3])
made.mkdir(parents=True)
for file in source.iterdir():
    if file.name not in ("config.json", INDEX):
        (made / file.name).symlink_to(file.resolve())
held, size = {{}}, 0
for file in sorted(source.glob("*.safetensors")):
    size += file.stat().st_size
    with safe_open(file, "pt") as weights:
        held.update(dict.fromkeys(weights.keys(), file.name))
scales = {{name: torch.tensor(scale, dtype=torch.float32).reshape(-1) for name, scale in SCALES.items()}}
save_file(scales, made / ADDED, metadata={{"format": "pt"}})
index = {{"metadata": {{"total_size": size}}, "weight_map": held | dict.fromkeys(scales, ADDED)}}
(made / INDEX).write_text(json.dumps(index, indent=2))
config = json.loads((source / "config.json").read_text())
config["quantization_config"] = {{
    "quant_method": "compressed-tensors",
    "format": "dense",
    "quantization_status": "compressed",
    "config_groups": {{}},
    "ignore": [],
    "kv_cache_scheme": SCHEME,
}}
(made / "config.json").write_text(json.dumps(config, indent=2))
'''


def scales_of(held: CompressionConfig, facts: ModelFacts | None) -> list[tuple[Any, Any]] | None:
    """Scales of keys and values by layer, a number or one per KV head; None for a layer that is not in fp8.

    None where every scale is 1, which needs no file.

    Raises:
        ConfigError: there are scales, and the model's layers are not known.
    """
    stage = held.pipeline.quantization
    forms = stage.formats if isinstance(stage, FormatQuantization) else []
    if not any(isinstance(form, FP8E4M3) and form.scaling == "fixed" and form.scale != 1.0 for form in forms):
        return None
    if facts is None:
        raise ConfigError(
            "scales belong to layers, and the model is not known",
            field="pipeline.quantization",
            remedy="add --model",
        )
    found = []
    for layer in range(facts.layers):
        pair = stage.of_layer(layer, facts.layers, sliding=facts.layer_kinds[layer] == "sliding")  # type: ignore[union-attr]
        key, value = (form.scale if isinstance(form, FP8E4M3) else None for form in pair)
        found.append((key, value))
    return found


def for_vllm(held: CompressionConfig, facts: ModelFacts | None) -> tuple[Artifact, ...]:
    """A script that makes a checkpoint with the scales; nothing where there are none."""
    found = scales_of(held, facts)
    if found is None or facts is None:
        return ()
    by_name: dict[str, Any] = {}
    for layer, pair in enumerate(found):
        for side, scale in zip(("k", "v"), pair, strict=True):
            if scale is not None:
                by_name[f"model.layers.{layer}.self_attn.{side}_scale"] = scale
    per_head = any(isinstance(scale, tuple) for scale in by_name.values())
    if per_head:
        by_name = {name: one if isinstance(one, tuple) else [one] * facts.kv_heads for name, one in by_name.items()}
    strategy = "attn_head" if per_head else "tensor"
    scheme = {"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": True, "dynamic": False}
    text = SCRIPT.format(scales=json.dumps(by_name), scheme=scheme)
    return (Artifact("python", "make_scaled_checkpoint.py", text),)


def for_sglang(held: CompressionConfig, facts: ModelFacts | None, file: str) -> tuple[Artifact, ...]:
    """SGLang's scale file for one GPU; keys and values of a layer share a scale. Nothing where there are none."""
    found = scales_of(held, facts)
    if found is None or facts is None:
        return ()
    factors = {str(layer): key for layer, (key, _) in enumerate(found)}
    document = {
        "model_type": facts.model_type,
        "kv_cache": {"dtype": "float8_e4m3fn", "scaling_factor": {"0": factors}},
    }
    return (Artifact("json", file, json.dumps(document, indent=2) + "\n"),)
