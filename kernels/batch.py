"""Batch entries of compressed layers: chosen, repeated, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from autokv.kernels.operands import Float8, LowRankResidual, Operands, Packed, Plain, Side
from autokv.kernels.rows import Rows

Held = TypeVar("Held", Packed, LowRankResidual)


def select(operands: Operands, entries: Tensor) -> Operands:
    """The batch ``entries`` (int64 ``[n]``, any order, repeats allowed) in memory of their own."""
    heads = torch.arange(operands.kv_heads, device=entries.device)
    rows = (entries[:, None] * operands.kv_heads + heads).view(-1)
    older = operands.older
    return replace(
        operands,
        batch=len(entries),
        older=older.take(rows)[0],
        keys=_take_side(operands.keys, older, rows),
        values=_take_side(operands.values, older, rows),
    )


def join(batches: Sequence[Operands]) -> Operands:
    """One batch of the entries of ``batches``, whose residual windows are equally long."""
    if len(batches) == 1:
        return batches[0]
    older = Rows.of_lengths(torch.cat([operands.older.lengths.cpu() for operands in batches]))
    first = batches[0]
    if older.offsets is not None:
        older = replace(older, offsets=older.offsets.to(first.keys.residual_window.device))
    return replace(
        first,
        batch=sum(operands.batch for operands in batches),
        older=older,
        keys=_join_sides([operands.keys for operands in batches]),
        values=_join_sides([operands.values for operands in batches]),
    )


def _take_side(side: Side, older: Rows, rows: Tensor) -> Side:
    tokens, residual = older.take(rows)[1], side.low_rank_residual
    if residual is not None:
        residual = LowRankResidual(residual.left.index_select(0, tokens), residual.right.index_select(0, rows))
    return Side(
        packed=_take_packed(side.packed, older, rows, tokens),
        residual_window=side.residual_window.index_select(0, rows),
        rotated=side.rotated,
        basis=None if side.basis is None else side.basis.index_select(0, rows),
        low_rank_residual=residual,
    )


def _take_packed(packed: Packed, older: Rows, rows: Tensor, tokens: Tensor) -> Packed:
    if isinstance(packed, Plain):
        return Plain(packed.data.index_select(0, tokens))
    codes = packed.codes.index_select(0, tokens)
    if isinstance(packed, Float8):
        return Float8(codes, packed.scale.index_select(0, rows))
    places = older.groups(packed.group_size).take(rows)[1] if packed.axis == "channel" else tokens
    scale, minimum = (tensor.index_select(0, places) for tensor in (packed.scale, packed.minimum))
    return replace(packed, codes=codes, scale=scale, minimum=minimum)


def _join_sides(sides: Sequence[Side]) -> Side:
    bases = [side.basis for side in sides if side.basis is not None]
    residuals = [side.low_rank_residual for side in sides if side.low_rank_residual is not None]
    return Side(
        packed=_joined([side.packed for side in sides]),
        residual_window=torch.cat([side.residual_window for side in sides]),
        rotated=sides[0].rotated,
        basis=torch.cat(bases) if bases else None,
        low_rank_residual=_joined(residuals) if residuals else None,
    )


def _joined(every: Sequence[Held]) -> Held:
    """The first of ``every``, with the tensors of all, one behind the other."""
    first: Any = every[0]
    tensors = [field.name for field in fields(first) if isinstance(getattr(first, field.name), Tensor)]
    joined: Held = replace(first, **{name: torch.cat([getattr(one, name) for one in every]) for name in tensors})
    return joined
