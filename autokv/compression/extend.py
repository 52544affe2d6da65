"""A compressed layer grows: tokens that were generated join it, a block of equally many for every row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from autokv.compression.encode import Learned, encode, rank_of
from autokv.compression.quantization import SideName
from autokv.config import IntegerQuantization, Pipeline
from autokv.kernels import Backend, Float8, Integers, Operands, Packed, Plain, Rows, Side

FLOAT8_MARGIN = 2.0
"""A row's first fp8 scale for tokens to come is this times what the tokens before them needed."""


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
    """Append ``keys`` and ``values`` ``[rows, block, head_dim]`` to ``appended``; the result has no residual window.

    A latent basis and the right factor of a low-rank residual come from ``before``, the tokens that were compressed
    first, where those are at least as many as a block; otherwise from the first block that is appended. fp8's scale
    begins with what ``before`` needed and doubles whenever a block needs more, which the codes that are there follow.

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
        learned = _known(grown) if grown else _learn(first, before.older, block, pipeline, name)
        side = encode(
            tokens, tokens[:, :0], block, pipeline, name, storage_dtype, kernels, replace(learned, scale=None)
        )
        if isinstance(side.packed, Float8):
            learned = replace(_known(side), scale=_reaching(learned.scale, side.packed.scale))
            side = encode(tokens, tokens[:, :0], block, pipeline, name, storage_dtype, kernels, learned)
        sides[name] = _append(grown, side, block.count) if grown else side
    longest = keys.shape[1] + (appended.older.longest if appended else 0)
    return replace(before, older=Rows(block.count, longest), keys=sides["key"], values=sides["value"])


def _side(operands: Operands, name: SideName) -> Side:
    return operands.keys if name == "key" else operands.values


def _known(side: Side) -> Learned:
    right = None if side.low_rank_residual is None else side.low_rank_residual.right
    return Learned(side.basis, right, side.packed.scale if isinstance(side.packed, Float8) else None)


def _learn(first: Side, older: Rows, block: Rows, pipeline: Pipeline, name: SideName) -> Learned:
    """What the tokens that were compressed first tell of those to come."""
    shortest, rank = int(older.lengths.min()), rank_of(pipeline, name)
    if not shortest or (rank and shortest < max(rank, block.longest)):
        return Learned()
    known = _known(first)
    return known if known.scale is None else replace(known, scale=known.scale * FLOAT8_MARGIN)


def _reaching(scale: Tensor | None, needed: Tensor) -> Tensor:
    """``scale``, doubled where it does not reach ``needed``; a first one has its margin."""
    if scale is None:
        return needed * FLOAT8_MARGIN
    return scale * (needed / scale).clamp_(min=1).log2_().ceil_().exp2_()


def _append(side: Side, block: Side, rows: int) -> Side:
    residual = side.low_rank_residual
    if residual is not None and block.low_rank_residual is not None:
        residual = replace(residual, left=_concatenate(residual.left, block.low_rank_residual.left, rows))
    return replace(side, packed=_append_packed(side.packed, block.packed, rows), low_rank_residual=residual)


def _append_packed(packed: Packed, block: Packed, rows: int) -> Packed:
    match packed, block:
        case Plain(), Plain():
            return Plain(_concatenate(packed.data, block.data, rows))
        case Float8(), Float8():
            codes = packed.codes
            if not torch.equal(packed.scale, block.scale):
                codes = _rescaled(codes, packed.scale / block.scale)
            return replace(block, codes=_concatenate(codes, block.codes, rows))
        case Integers(), Integers():
            return replace(
                packed,
                codes=_concatenate(packed.codes, block.codes, rows),
                scale=_concatenate(packed.scale, block.scale, rows),
                minimum=_concatenate(packed.minimum, block.minimum, rows),
            )
    raise TypeError("a block of another form")


def _rescaled(codes: Tensor, factors: Tensor) -> Tensor:
    """e4m3 ``codes`` ``[rows * tokens, width]`` times their row's factor: exact for powers of two, down to the smallest
    numbers of the format."""
    values = codes.view(torch.float8_e4m3fn).float().view(len(factors), -1, codes.shape[1])
    return (values * factors[:, None, None]).to(torch.float8_e4m3fn).view(torch.uint8).view(codes.shape)


def _concatenate(flat: Tensor, block: Tensor, rows: int) -> Tensor:
    """Rows of flat storage, each with its part of ``block`` behind it."""
    parts = [tensor.view(rows, len(tensor) // rows, tensor.shape[1]) for tensor in (flat, block)]
    return torch.cat(parts, dim=1).flatten(0, 1)
