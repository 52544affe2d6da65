"""Batch entries of compressed layers: chosen, repeated, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor

from autokv.kernels.operands import Float8, Integers, Operands, Packed, Plain, Side
from autokv.kernels.rows import Rows


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
    """One batch of the entries of ``batches``, whose windows are equally long."""
    if len(batches) == 1:
        return batches[0]
    older = Rows.of_lengths(torch.cat([operands.older.lengths.cpu() for operands in batches]))
    first = batches[0]
    if older.offsets is not None:
        older = replace(older, offsets=older.offsets.to(first.keys.window.device))
    return replace(
        first,
        batch=sum(operands.batch for operands in batches),
        older=older,
        keys=_join_sides([operands.keys for operands in batches]),
        values=_join_sides([operands.values for operands in batches]),
    )


def _take_side(side: Side, older: Rows, rows: Tensor) -> Side:
    tokens = older.take(rows)[1]
    return Side(
        packed=_take_packed(side.packed, older, rows, tokens),
        window=side.window.index_select(0, rows),
        rotated=side.rotated,
        basis=None if side.basis is None else side.basis.index_select(0, rows),
        left=None if side.left is None else side.left.index_select(0, tokens),
        right=None if side.right is None else side.right.index_select(0, rows),
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
    return Side(
        packed=_join_packed([side.packed for side in sides]),
        window=torch.cat([side.window for side in sides]),
        rotated=sides[0].rotated,
        basis=_join([side.basis for side in sides]),
        left=_join([side.left for side in sides]),
        right=_join([side.right for side in sides]),
    )


def _join_packed(every: Sequence[Packed]) -> Packed:
    first = every[0]

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(packed, name) for packed in every])

    match first:
        case Plain():
            return Plain(joined("data"))
        case Float8():
            return Float8(joined("codes"), joined("scale"))
        case Integers():
            return replace(first, codes=joined("codes"), scale=joined("scale"), minimum=joined("minimum"))
    assert_never(first)


def _join(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None
