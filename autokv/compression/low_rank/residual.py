"""Low-rank factors of what quantization lost (GEAR, Kang et al., 2024)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from autokv.compression.low_rank.gram import gram
from autokv.kernels import Rows

ITERATIONS = 3
"""Rounds of subspace iteration."""


def low_rank_factors(error: Tensor, older: Rows, rank: int) -> tuple[Tensor, Tensor]:
    """Factors of float32 ``error`` ``[rows, longest, width]``: ``left @ right.mT`` is near it.

    Returns float32 ``left`` ``[rows, longest, rank]`` and float16 ``right`` ``[rows, width, rank]``, whose columns are
    orthonormal: the strongest right singular directions, by subspace iteration from a fixed start. ``left`` is the
    projection onto ``right`` as stored.
    """
    product = gram(error, older)
    right = _start(error.shape[-1], rank, error.device)
    for _ in range(ITERATIONS):
        right = torch.linalg.qr(product @ right).Q
    rounded = right.half().contiguous()
    return error @ rounded.float(), rounded


@lru_cache(maxsize=64)
def _start(width: int, rank: int, device: torch.device) -> Tensor:
    return torch.randn(width, rank, generator=torch.Generator().manual_seed(0)).to(device)
