"""A compressed layer grows: tokens that were generated join it, a block of equally many for every row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from autokv.compression.encode import Learned, encode, rank_of
from autokv.compression.quantization import SideName
from autokv.config import FP8Quantization, IntegerQuantization, Pipeline
from autokv.kernels import Backend, Float8, Integers, Operands, Packed, Plain, Rows, Side

FLOAT8_MARGIN = 2.0
"""A row's fp8 scale for tokens to come is this times what the tokens before them needed."""


def group_of(pipeline: Pipeline) -> int:
    """Tokens that share scales: a block to append must be a multiple of it."""
    quantization = pipeline.quantization
    forms = (quantization.key, quantization.value) if isinstance(quantization, IntegerQuantization) else ()
    return max((form.group_size for form in forms if form.axis == "channel"), default=1)


def extend(
    appended: Operands | None,
    keys: Tensor,
    values: Tensor,
    before: Operands,
    pipeline: Pipeline,
    storage_dtype: torch.dtype,
    kernels: Backend,
) -> Operands:
    """Append ``keys`` and ``values`` ``[rows, block, head_dim]`` to ``appended``; the result has no window.

    A latent basis, the right factor of a correction and the scale of fp8 come from ``before``, the tokens that were
    compressed first, where those were enough to find them from; otherwise from the first block that is appended.

    Args:
        appended: what earlier calls made.
        keys: a multiple of :func:`group_of` tokens for every row.
        values: as ``keys``.
        before: the layer as it was compressed before anything was appended to it.
        pipeline: how to compress.
        storage_dtype: 16-bit dtype of what is not quantized.
        kernels: what runs the operations.
    """
    block = Rows(keys.shape[0], keys.shape[1])
    sides: dict[SideName, Side] = {}
    names: Iterable[tuple[SideName, Tensor]] = (("key", keys), ("value", values))
    for name, tokens in names:
        first, grown = _side(before, name), None if appended is None else _side(appended, name)
        learned = _known(grown) if grown else _learn(first, before.older, tokens, block, pipeline, name, kernels)
        side = encode(tokens, tokens[:, :0], block, pipeline, name, storage_dtype, kernels, learned)
        sides[name] = _append(grown, side, block.count) if grown else side
    longest = keys.shape[1] + (appended.older.longest if appended else 0)
    return replace(before, older=Rows(block.count, longest), keys=sides["key"], values=sides["value"])


def _side(operands: Operands, name: SideName) -> Side:
    return operands.keys if name == "key" else operands.values


def _known(side: Side) -> Learned:
    return Learned(side.basis, side.right, side.packed.scale if isinstance(side.packed, Float8) else None)


def _learn(
    first: Side, older: Rows, tokens: Tensor, block: Rows, pipeline: Pipeline, name: SideName, kernels: Backend
) -> Learned:
    enough = int(older.lengths.min()) >= max(rank_of(pipeline, name), 1)
    known = _known(first) if enough else Learned()
    scale = known.scale
    if isinstance(pipeline.quantization, FP8Quantization):
        if scale is None:
            packed = encode(tokens, tokens[:, :0], block, pipeline, name, torch.float16, kernels, known).packed
            scale = packed.scale if isinstance(packed, Float8) else None
        scale = None if scale is None else scale * FLOAT8_MARGIN
    return replace(known, scale=scale)


def _append(side: Side, block: Side, rows: int) -> Side:
    left = None
    if side.left is not None and block.left is not None:
        left = _concatenate(side.left, block.left, rows)
    return replace(side, packed=_append_packed(side.packed, block.packed, rows), left=left)


def _append_packed(packed: Packed, block: Packed, rows: int) -> Packed:
    match packed, block:
        case Plain(), Plain():
            return Plain(_concatenate(packed.data, block.data, rows))
        case Float8(), Float8():
            return replace(packed, codes=_concatenate(packed.codes, block.codes, rows))
        case Integers(), Integers():
            return replace(
                packed,
                codes=_concatenate(packed.codes, block.codes, rows),
                scale=_concatenate(packed.scale, block.scale, rows),
                minimum=_concatenate(packed.minimum, block.minimum, rows),
            )
    raise TypeError("a block of another form")


def _concatenate(flat: Tensor, block: Tensor, rows: int) -> Tensor:
    """Rows of flat storage, each with its part of ``block`` behind it."""
    parts = [tensor.view(rows, len(tensor) // rows, tensor.shape[1]) for tensor in (flat, block)]
    return torch.cat(parts, dim=1).flatten(0, 1)
