"""fp8 e4m3 with one scale per row (Micikevicius et al., "FP8 formats for deep learning", 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Float8
from autokv.kernels.rows import Rows

E4M3_MAX = 448.0
HALVES_SCALE = 256.0
"""How much larger e4m3 numbers are than the same bits as float16, see :func:`as_halves`."""


def quantize_float8(dense: Tensor, rows: Rows, *, rotated: bool = False, scale: Tensor | None = None) -> Float8:
    """See :class:`autokv.kernels.backend.QuantizeFloat8`."""
    dense = rotate(dense.float()) if rotated else dense.float()
    tiny = torch.finfo(torch.float32).tiny
    if scale is None and rows.longest:
        scale = dense.abs().amax(dim=(1, 2)).div_(E4M3_MAX).clamp_min_(tiny)
    elif scale is None:
        scale = torch.ones(rows.count, device=dense.device)
    scaled = dense.mul(scale.reciprocal()[:, None, None]).clamp_(-E4M3_MAX, E4M3_MAX)
    return Float8(rows.to_flat(scaled.to(torch.float8_e4m3fn).view(torch.uint8)), scale)


def dequantize_float8(packed: Float8, rows: Rows) -> Tensor:
    """Float32 ``[rows, longest, width]``."""
    return as_halves(rows.to_dense(packed.codes)).float().mul_(packed.scale.mul(HALVES_SCALE)[:, None, None])


def as_halves(codes: Tensor) -> Tensor:
    """The float16 numbers that are :data:`HALVES_SCALE` times smaller than the e4m3 numbers ``codes``.

    A float8 is a float16 with 3 of 10 mantissa bits and an exponent bias of 7 instead of 15: shifted into place it
    reads 2**-8 times its value, subnormals included. The conversion operator does this one element at a time.
    """
    wide = codes.view(torch.int8).to(torch.int16)
    return (wide & 0x7F).bitwise_left_shift_(7).bitwise_or_(wide & -0x8000).view(torch.float16)
