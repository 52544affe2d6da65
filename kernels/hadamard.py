"""Rotation by an orthonormal Hadamard matrix, which spreads outlier channels over all channels.

Rotating keys before quantization is from QuaRot (Ashkboos et al., 2024); queries rotated alike leave q·k unchanged.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def _matrix(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    matrix = torch.ones(1, 1, dtype=dtype, device=device)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix.mul_(size**-0.5)


def rotate(x: Tensor) -> Tensor:
    """Rotate the last dimension of ``x``; its own inverse, because Sylvester's matrix is symmetric.

    A width that is no power of two is rotated in blocks of its largest power-of-two factor.
    """
    width = x.shape[-1]
    block = width & -width
    return (x.reshape(-1, block) @ _matrix(block, x.device, x.dtype)).view(x.shape)
