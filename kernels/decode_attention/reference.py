"""Decode attention in float64, row by row, on tokens that are rebuilt one value at a time. Slow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from autokv.kernels.decode_attention import Attention
from autokv.kernels.operands import Integers, Operands, Side
from autokv.kernels.quantize_pack.reference import dequantize_row


def decode_attention(
    query: Tensor,
    parts: Sequence[Operands],
    scaling: float,
    *,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> Attention:
    """See :class:`autokv.kernels.decode_attention.DecodeAttention`: what every other backend is held against."""
    head_dim = query.shape[-1]
    queries = query.double().reshape(parts[0].older.count, -1, head_dim)
    outputs, lses = [], []
    for row, row_query in enumerate(queries):
        keys = torch.cat([_row(part, part.keys, row) for part in parts])
        values = torch.cat([_row(part, part.values, row) for part in parts])
        if sliding_window is not None:
            keys, values = keys[-sliding_window:], values[-sliding_window:]
        scores = row_query @ keys.T * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        lses.append(scores.logsumexp(dim=-1))
        outputs.append(scores.softmax(dim=-1) @ values)
    output, lse = torch.stack(outputs), torch.stack(lses)
    return Attention(output.view(query.shape).to(query.dtype), lse.view(query.shape[:2]).float())


def attention_16bit(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.attention_16bit`."""
    group = query.shape[1] // keys.shape[1]
    keys, values = (side.double().repeat_interleave(group, dim=1) for side in (keys, values))
    weights = (query.double()[:, :, None] @ keys.mT * scaling).softmax(dim=-1)
    return (weights @ values)[:, :, 0].to(query.dtype)


def _row(part: Operands, side: Side, row: int) -> Tensor:
    """Float64 ``[tokens, head_dim]``: every token of one row."""
    starts = [0]
    for length in part.older.lengths.tolist():
        starts.append(starts[-1] + length)
    start, stop = starts[row], starts[row + 1]
    first_group = 0
    if isinstance(side.packed, Integers):
        size = side.packed.group_size
        first_group = sum(math.ceil((b - a) / size) for a, b in pairwise(starts[: row + 1]))
    tokens = dequantize_row(side.packed, row, start, stop, first_group)
    if (residual := side.low_rank_residual) is not None:
        tokens = tokens + residual.left[start:stop].double() @ residual.right[row].double().T
    if side.basis is not None:
        tokens = tokens @ side.basis[row].double().T
    elif side.rotated:
        tokens = tokens @ _hadamard(tokens.shape[1]).to(tokens.device)
    return torch.cat([tokens, side.residual_window[row].double()])


def _hadamard(width: int) -> Tensor:
    """Block-diagonal Sylvester matrix: entry (i, j) of a block has the sign of the parity of ``i & j``."""
    block = width & -width
    signs = [[(-1) ** (i & j).bit_count() for j in range(block)] for i in range(block)]
    return torch.eye(width // block, dtype=torch.float64).kron(torch.tensor(signs)) / math.sqrt(block)
