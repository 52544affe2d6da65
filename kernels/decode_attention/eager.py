"""Decode attention in PyTorch, on any device.

The query goes to the cache, not the cache to the query: the query is taken into the rotated or latent basis, where
the packed coordinates are, the low-rank correction is applied factor by factor (q·(A Bᵀ)ᵀ = (q B) Aᵀ), and only the
output comes back out of the values' basis. Older tokens and window share one softmax.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Operands, Plain, Side
from autokv.kernels.quantize_pack import dequantize
from autokv.kernels.rows import Rows


class EagerBackend:
    """PyTorch's own operators; a compressed cache is computed in float32, a 16-bit one in its own dtype."""

    name = "torch"

    def decode_attention(self, query: Tensor, operands: Operands, scaling: float) -> Tensor:
        """See :class:`autokv.kernels.backend.Backend`."""
        keys, values, older = operands.keys, operands.values, operands.older
        # The query heads of one KV head become rows of one product: [rows, group, head_dim].
        grouped = query.reshape(older.count, -1, operands.head_dim)
        plain = _plain_tensors(operands)
        if plain is not None:
            return _plain_attention(grouped, *plain, older, scaling).view(query.shape).to(query.dtype)
        grouped = grouped.float() * scaling
        scores = _older_scores(grouped, keys, older)
        inside = older.inside()
        if inside is not None:
            scores.masked_fill_(~inside[:, None], -torch.inf)
        weights = torch.cat([scores, grouped @ keys.window.float().mT], dim=-1).softmax(dim=-1)
        output = _older_output(weights[..., : older.longest], values, older)
        output.baddbmm_(weights[..., older.longest :], values.window.float())
        return output.view(query.shape).to(query.dtype)

    def attention_16bit(self, query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """See :class:`autokv.kernels.backend.Backend`."""
        batch, kv_heads, _, head_dim = keys.shape
        grouped = query.reshape(batch, kv_heads, -1, head_dim)
        output = _attend(grouped, keys, values, scaling)
        return output.reshape(query.shape).to(query.dtype)


def _plain_tensors(operands: Operands) -> tuple[Tensor, Tensor] | None:
    """Flat keys and values, if all that is held is tokens in 16 bits."""
    keys, values = operands.keys, operands.values
    bases = any(side.rotated or side.basis is not None for side in (keys, values))
    if operands.newest or bases or not (isinstance(keys.packed, Plain) and isinstance(values.packed, Plain)):
        return None
    return keys.packed.data, values.packed.data


def _plain_attention(grouped: Tensor, keys: Tensor, values: Tensor, rows: Rows, scaling: float) -> Tensor:
    if rows.offsets is None:
        return _attend(grouped[None], rows.to_dense(keys)[None], rows.to_dense(values)[None], scaling)
    # Row by row reads every token where it lies; padding to the longest row would copy the whole cache each step.
    outputs = [
        _attend(grouped[None, row : row + 1], keys[None, None, start:stop], values[None, None, start:stop], scaling)
        for row, (start, stop) in enumerate(pairwise(rows.offsets.tolist()))
    ]
    return torch.cat(outputs, dim=1)


def _attend(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    if keys.dtype == torch.float16 and keys.device.type == "cpu":
        # Several times faster than attention in float16, which CPUs emulate.
        keys, values = keys.float(), values.float()
    return scaled_dot_product_attention(query.to(keys.dtype), keys, values, scale=scaling)


def _older_scores(query: Tensor, side: Side, older: Rows) -> Tensor:
    """``query`` ``[rows, group, head_dim]`` times the older keys: ``[rows, group, longest]``."""
    if side.basis is not None:
        query = query @ side.basis.float()
    elif side.rotated:
        query = rotate(query)
    scores = query @ dequantize(side.packed, older).mT
    if side.left is not None and side.right is not None:
        scores.baddbmm_(query @ side.right.float(), older.to_dense(side.left).float().mT)
    return scores


def _older_output(weights: Tensor, side: Side, older: Rows) -> Tensor:
    """``weights`` ``[rows, group, longest]`` times the older values: ``[rows, group, head_dim]``."""
    output = weights @ dequantize(side.packed, older)
    if side.left is not None and side.right is not None:
        output.baddbmm_(weights @ older.to_dense(side.left).float(), side.right.float().mT)
    if side.basis is not None:
        return output @ side.basis.float().mT
    return rotate(output) if side.rotated else output
