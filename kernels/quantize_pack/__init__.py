"""Quantize, pack, unpack, dequantize: in PyTorch."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Axis, Float8, Integers, Packed, Plain
from autokv.kernels.quantize_pack.packing import pack, unpack
from autokv.kernels.rows import Rows

E4M3_MAX = 448.0
HALF_MAX = 65504.0
"""Largest finite float16."""
HALVES_SCALE = 256.0
"""How much larger e4m3 numbers are than the same bits as float16, see :func:`as_halves`."""


def dequantize(packed: Packed, rows: Rows) -> Tensor:
    """The coordinates, float32 ``[rows, longest, width]``; places beyond a row's end hold values of no meaning."""
    match packed:
        case Integers():
            return _dequantize_integers(packed, rows)
        case Float8():
            return _dequantize_float8(packed, rows)
        case Plain():
            return rows.to_dense(packed.data).float()
    assert_never(packed)


def quantize_integers(
    dense: Tensor, rows: Rows, *, bits: int, axis: Axis, group_size: int, rotated: bool = False
) -> Integers:
    """See :class:`autokv.kernels.backend.QuantizeIntegers` (KIVI, Liu et al., 2024).

    Scale and minimum are rounded outwards to float16 before the codes are computed, so that every value within
    ±65504 is at most half a stored scale from what is read back; larger values saturate.
    """
    dense = rotate(dense.float()) if rotated else dense.float()
    count, longest, width = dense.shape
    if axis == "channel":
        groups, dim = rows.groups(group_size), 2
        missing = groups.longest * group_size - longest
        if missing:
            dense = torch.cat([dense, dense[:, -1:].expand(-1, missing, -1)], dim=1)
        shaped = dense.view(count, groups.longest, group_size, width)
    else:
        groups, dim = rows, 3
        shaped = dense.view(count, longest, width // group_size, group_size)
    levels = (1 << bits) - 1
    minimum = _round_up(shaped.amin(dim, keepdim=True).neg_()).neg_()
    low = minimum.float()
    scale = _round_up(shaped.amax(dim, keepdim=True).clamp_(-HALF_MAX, HALF_MAX).sub_(low).div_(levels))
    inverse = scale.float().reciprocal_().masked_fill_(scale == 0, 0)
    codes = (shaped - low).mul_(inverse).round_().clamp_(0, levels).view(dense.shape)[:, :longest]
    # By way of int16: a direct conversion of floats to uint8 is not vectorised on CPU.
    codes = codes.to(torch.int16).to(torch.uint8)
    return Integers(
        codes=rows.to_flat(pack(codes, bits)),
        scale=groups.to_flat(scale.squeeze(dim)),
        minimum=groups.to_flat(minimum.squeeze(dim)),
        bits=bits,
        axis=axis,
        group_size=group_size,
        width=width,
    )


def _dequantize_integers(packed: Integers, rows: Rows) -> Tensor:
    """Float32 ``[rows, longest, width]``; places beyond a row's end hold finite values of no meaning."""
    codes = rows.to_dense(packed.codes)
    groups = rows.groups(packed.group_size) if packed.axis == "channel" else rows
    scale = groups.to_dense(packed.scale).float()
    minimum = groups.to_dense(packed.minimum).float()
    longest = groups.longest * packed.group_size if packed.axis == "channel" else rows.longest
    values = torch.empty(rows.count, longest, packed.width, device=codes.device)
    values[:, : rows.longest] = unpack(codes, packed.bits, packed.width)
    if packed.axis == "channel":
        shaped = values.view(rows.count, groups.longest, packed.group_size, packed.width)
        torch.addcmul(minimum[:, :, None], shaped, scale[:, :, None], out=shaped)
    else:
        shaped = values.view(rows.count, longest, packed.width // packed.group_size, packed.group_size)
        torch.addcmul(minimum[..., None], shaped, scale[..., None], out=shaped)
    return values[:, : rows.longest]


def quantize_float8(dense: Tensor, rows: Rows, *, rotated: bool = False, scale: Tensor | None = None) -> Float8:
    """See :class:`autokv.kernels.backend.QuantizeFloat8` ("FP8 Formats for Deep Learning", Micikevicius et al.)."""
    dense = rotate(dense.float()) if rotated else dense.float()
    tiny = torch.finfo(torch.float32).tiny
    if scale is None and rows.longest:
        scale = dense.abs().amax(dim=(1, 2)).div_(E4M3_MAX).clamp_min_(tiny)
    elif scale is None:
        scale = torch.ones(rows.count, device=dense.device)
    scaled = dense.mul(scale.reciprocal()[:, None, None]).clamp_(-E4M3_MAX, E4M3_MAX)
    return Float8(rows.to_flat(scaled.to(torch.float8_e4m3fn).view(torch.uint8)), scale)


def _dequantize_float8(packed: Float8, rows: Rows) -> Tensor:
    """Float32 ``[rows, longest, width]``."""
    return as_halves(rows.to_dense(packed.codes)).float().mul_(packed.scale.mul(HALVES_SCALE)[:, None, None])


def as_halves(codes: Tensor) -> Tensor:
    """The float16 numbers that are :data:`HALVES_SCALE` times smaller than the e4m3 numbers ``codes``.

    A float8 is a float16 with 3 of 10 mantissa bits and an exponent bias of 7 instead of 15: shifted into place it
    reads 2**-8 times its value, subnormals included. The conversion operator does this one element at a time.
    """
    wide = codes.view(torch.int8).to(torch.int16)
    return (wide & 0x7F).bitwise_left_shift_(7).bitwise_or_(wide & -0x8000).view(torch.float16)


def _round_up(x: Tensor) -> Tensor:
    """Float32 to the nearest float16 that is not below, clamped to the finite range; ``x`` is overwritten."""
    half = x.clamp_(-HALF_MAX, HALF_MAX).half()
    bits = half.view(torch.int16)
    # The next float16 up is one step of the bit pattern away from zero if positive, towards zero if negative.
    bits += torch.where(bits < 0, -1, 1).to(torch.int16) * (half.float() < x)
    return half
