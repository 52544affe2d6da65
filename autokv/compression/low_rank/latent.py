"""Tokens as coordinates in the singular directions of a row (SVDq, Yankun et al., 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.low_rank.gram import gram
from autokv.kernels import Rows


def latent_basis(tokens: Tensor, older: Rows, rank: int) -> Tensor:
    """The ``rank`` strongest right singular vectors of every row, strongest first.

    ``tokens``: float32 ``[rows, longest, head_dim]``. Returns float32 ``[rows, head_dim, rank]``.
    """
    ascending: Tensor = torch.linalg.eigh(gram(tokens, older)).eigenvectors
    return ascending[:, :, -rank:].flip(-1)
