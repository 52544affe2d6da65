"""Older tokens out of their compressed form."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Side
from autokv.kernels.quantize_pack import dequantize
from autokv.kernels.rows import Rows


def reconstruct(side: Side, older: Rows) -> Tensor:
    """Float32 ``[rows, longest, head_dim]``; places beyond a row's end hold values of no meaning."""
    coordinates = dequantize(side.packed, older)
    if side.left is not None and side.right is not None:
        correction = older.to_dense(side.left).float()
        coordinates = torch.baddbmm(coordinates, correction, side.right.float().mT)
    if side.basis is not None:
        return coordinates @ side.basis.float().mT
    return rotate(coordinates) if side.rotated else coordinates
