"""Decode attention in float64, row by row, on tokens that are rebuilt one value at a time. Slow."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from autokv.kernels.operands import Integers, Operands, Side
from autokv.kernels.quantize_pack.reference import dequantize_row


class ReferenceBackend:
    """What every other backend is held against."""

    name = "reference"

    def decode_attention(self, query: Tensor, operands: Operands, scaling: float) -> Tensor:
        """See :class:`autokv.kernels.backend.Backend`."""
        group = query.shape[1] // operands.kv_heads
        queries = query.double().reshape(-1, group, operands.head_dim)
        starts = [0]
        for length in operands.older.lengths.tolist():
            starts.append(starts[-1] + length)
        outputs = [
            _attend(row_query, _row(operands.keys, row, starts), _row(operands.values, row, starts), scaling)
            for row, row_query in enumerate(queries)
        ]
        return torch.stack(outputs).view(query.shape).to(query.dtype)

    def attention_16bit(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """See :class:`autokv.kernels.backend.Backend`."""
        group = query.shape[1] // keys.shape[1]
        keys, values = (side.double().repeat_interleave(group, dim=1) for side in (keys, values))
        return _attend(query.double()[:, :, None], keys, values, scaling)[:, :, 0].to(query.dtype)


def _attend(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    return (query @ keys.mT * scaling).softmax(dim=-1) @ values


def _row(side: Side, row: int, starts: list[int]) -> Tensor:
    """Float64 ``[tokens, head_dim]``: every token of one row."""
    start, stop = starts[row], starts[row + 1]
    first_group = 0
    if isinstance(side.packed, Integers):
        size = side.packed.group_size
        first_group = sum(math.ceil((b - a) / size) for a, b in pairwise(starts[: row + 1]))
    tokens = dequantize_row(side.packed, row, start, stop, first_group)
    if side.left is not None and side.right is not None:
        tokens = tokens + side.left[start:stop].double() @ side.right[row].double().T
    if side.basis is not None:
        tokens = tokens @ side.basis[row].double().T
    elif side.rotated:
        tokens = tokens @ _hadamard(tokens.shape[1])
    return torch.cat([tokens, side.window[row].double()])


def _hadamard(width: int) -> Tensor:
    """Block-diagonal Sylvester matrix: entry (i, j) of a block has the sign of the parity of ``i & j``."""
    block = width & -width
    signs = [
        [(-1) ** (i & j).bit_count() if i // block == j // block else 0 for j in range(width)] for i in range(width)
    ]
    return torch.tensor(signs, dtype=torch.float64) / math.sqrt(block)
