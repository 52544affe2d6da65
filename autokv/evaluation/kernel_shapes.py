"""What the kernel table is measured over: the attention of known models, and the forms that a cache may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autokv.config import CompressionConfig


@dataclass(frozen=True)
class AttentionShape:
    """Heads of one layer."""

    kv_heads: int
    group: int
    """Query heads of one KV head."""
    head_dim: int


SHAPES: dict[str, AttentionShape] = {
    "llama-3.1-8b": AttentionShape(8, 4, 128),
    "qwen2.5-7b": AttentionShape(4, 7, 128),
    "gemma-3": AttentionShape(8, 2, 256),
    "smollm2": AttentionShape(3, 3, 64),
}
"""By the models that have them: Llama-3.1-8B, Qwen2.5-7B, Gemma-3-12B and SmolLM2-135M."""


def _integer(key: int, value: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - the fields of a document
    """Keys per channel and values per token, as KIVI has them, in groups of 64."""
    return {
        "method": "integer",
        "key": {"bits": key, "axis": "channel", "group_size": 64},
        "value": {"bits": value, "axis": "token", "group_size": 64},
        "residual_tokens": 0,
        **fields,
    }


_EVICTION = {"method": "knorm", "keep_ratio": 0.5, "recent_tokens": 1, "head_budget": "adaptive"}
_PIPELINES: dict[str, dict[str, Any]] = {
    "16-bit": {},
    "fp8": {"quantization": {"method": "fp8"}},
    "int8": {"quantization": _integer(8, 8)},
    "int4": {"quantization": _integer(4, 4)},
    "int3": {"quantization": _integer(3, 3)},
    "int2": {"quantization": _integer(2, 2)},
    "k4v2": {"quantization": _integer(4, 2)},
    "int4-window": {"quantization": _integer(4, 4, residual_tokens=128)},
    "int4-hadamard": {"quantization": _integer(4, 4, rotation="hadamard")},
    "int4-rank4": {
        "quantization": _integer(4, 4),
        "low_rank": {"method": "residual", "key_rank": 4, "value_rank": 4},
    },
    "int4-ragged": {"quantization": _integer(4, 4), "eviction": _EVICTION},
}

FORMATS: dict[str, CompressionConfig] = {
    name: CompressionConfig.parse({"pipeline": pipeline}) for name, pipeline in _PIPELINES.items()
}
"""Forms of a cache by name; ``-window`` keeps 128 tokens in 16 bits, ``-rank4`` corrects the error, ``-ragged`` has
evicted half of the tokens, from some heads more than from others."""
BASIC = ("16-bit", "fp8", "int8", "int4", "int3", "int2")
