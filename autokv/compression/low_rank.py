"""The third stage: few directions in place of many channels, or beside them for what quantization lost."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from autokv.kernels import Rows

ITERATIONS = 3
"""Rounds of subspace iteration."""


def latent_basis(tokens: Tensor, older: Rows, rank: int) -> Tensor:
    """The ``rank`` strongest right singular vectors of every row, strongest first (SVDq, Yankun et al., 2025).

    ``tokens``: float32 ``[rows, longest, head_dim]``. Returns float32 ``[rows, head_dim, rank]``.
    """
    ascending: Tensor = torch.linalg.eigh(_gram(tokens, older)).eigenvectors
    return ascending[:, :, -rank:].flip(-1)


def low_rank_residual(error: Tensor, older: Rows, rank: int) -> tuple[Tensor, Tensor]:
    """What quantization lost, float32 ``error`` ``[rows, longest, width]``, is near ``left @ right.mT`` (GEAR, Kang et
    al., 2024).

    Returns float32 ``left`` ``[rows, longest, rank]`` and float16 ``right`` ``[rows, width, rank]``, whose columns are
    orthonormal: the strongest right singular directions, by subspace iteration from a fixed start. ``left`` is the
    projection onto ``right`` as stored.
    """
    product = _gram(error, older)
    right = _start(error.shape[-1], rank, error.device)
    for _ in range(ITERATIONS):
        right = torch.linalg.qr(product @ right).Q
    rounded = right.half().contiguous()
    return error @ rounded.float(), rounded


@lru_cache(maxsize=64)
def _start(width: int, rank: int, device: torch.device) -> Tensor:
    return torch.randn(width, rank, generator=torch.Generator().manual_seed(0)).to(device)


def _gram(tokens: Tensor, older: Rows) -> Tensor:
    """``Xᵀ X`` of every row, scaled so that its largest diagonal entry is 1 (0 for a row of zeros).

    A row's singular directions depend on nothing else, and it is head_dim wide however long the row is.

    ``tokens``: float32 ``[rows, longest, width]``; places beyond a row's end count as zeros. Returns
    ``[rows, width, width]``.
    """
    inside = older.inside()
    if inside is not None:
        tokens = tokens * inside[:, :, None]
    product = tokens.mT @ tokens
    largest = product.diagonal(dim1=1, dim2=2).amax(dim=1)
    return product.div_(largest.masked_fill_(largest == 0, 1)[:, None, None])
