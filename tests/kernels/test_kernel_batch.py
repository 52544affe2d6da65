"""Choosing and joining batch entries, held against the entries on their own."""

from __future__ import annotations

import pytest
import torch

from autokv.compression import LayerContext, compress
from autokv.config import CompressionConfig
from autokv.kernels import Operands, backend, held_tensors, join, select

PIPELINES: dict[str, dict[str, object]] = {
    "plain": {"eviction": {"method": "knorm", "keep_ratio": 0.5, "recent_tokens": 4, "head_budget": "adaptive"}},
    "int4": {
        "eviction": {"method": "knorm", "keep_ratio": 0.5, "recent_tokens": 4, "head_budget": "adaptive"},
        "quantization": {
            "method": "integer",
            "key": {"bits": 4, "axis": "channel", "group_size": 16},
            "value": {"bits": 3, "axis": "token", "group_size": 16},
            "rotation": "hadamard",
            "residual_tokens": 5,
        },
        "low_rank": {"method": "residual", "key_rank": 2, "value_rank": 0},
    },
    "fp8": {"quantization": {"method": "fp8", "residual_tokens": 3}},
    "latent": {"low_rank": {"method": "latent", "key_rank": 8, "value_rank": 16}},
}


def compressed(name: str, batch: int, tokens: int, seed: int) -> Operands:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, batch, 2, tokens, 32, generator=generator)
    config = CompressionConfig.parse({"schema_version": "autokv/v1", "pipeline": PIPELINES[name]})
    return compress(keys, values, LayerContext(0, 1, 0.2), config).held


def attend(query: torch.Tensor, operands: Operands) -> torch.Tensor:
    return backend("cpu", "reference").decode_attention(query, [operands], 0.2).output


@pytest.mark.parametrize("name", PIPELINES)
def test_chosen_entries_attend_like_the_originals(name: str) -> None:
    operands, query = compressed(name, 3, 41, 1), torch.randn(3, 4, 32)
    entries = torch.tensor([2, 0, 2, 1])
    chosen = select(operands, entries)
    torch.testing.assert_close(attend(query[entries], chosen), attend(query, operands)[entries])
    originals, copies = (
        {tensor.data_ptr() for tensor in held_tensors(one) if tensor.numel()} for one in (operands, chosen)
    )
    assert originals.isdisjoint(copies)


@pytest.mark.parametrize("name", PIPELINES)
def test_joined_entries_attend_like_the_originals(name: str) -> None:
    first, second, query = compressed(name, 2, 41, 2), compressed(name, 1, 30, 3), torch.randn(3, 4, 32)
    expected = torch.cat([attend(query[:2], first), attend(query[2:], second)])
    torch.testing.assert_close(attend(query, join([first, second])), expected)
