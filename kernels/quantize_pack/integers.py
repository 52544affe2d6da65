"""Asymmetric min-max integers (KIVI, Liu et al., 2024: keys per channel, values per token)."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Axis, Integers
from autokv.kernels.quantize_pack.packing import pack, unpack
from autokv.kernels.rows import Rows

HALF_MAX = 65504.0
"""Largest finite float16."""


def quantize_integers(
    dense: Tensor, rows: Rows, *, bits: int, axis: Axis, group_size: int, rotated: bool = False
) -> Integers:
    """See :class:`autokv.kernels.backend.QuantizeIntegers`.

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


def dequantize_integers(packed: Integers, rows: Rows) -> Tensor:
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


def _round_up(x: Tensor) -> Tensor:
    """Float32 to the nearest float16 that is not below, clamped to the finite range; ``x`` is overwritten."""
    half = x.clamp_(-HALF_MAX, HALF_MAX).half()
    bits = half.view(torch.int16)
    # The next float16 up is one step of the bit pattern away from zero if positive, towards zero if negative.
    bits += torch.where(bits < 0, -1, 1).to(torch.int16) * (half.float() < x)
    return half
