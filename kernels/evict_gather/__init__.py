"""Compaction: the kept tokens of every row, moved together."""

from __future__ import annotations

import torch
from torch import Tensor


def evict_gather(tokens: Tensor, index: Tensor) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.evict_gather`; in PyTorch."""
    rows, available, width = tokens.shape
    starts = torch.arange(0, rows * available, available, device=tokens.device)[:, None]
    return tokens.reshape(-1, width).index_select(0, (index + starts).view(-1)).view(*index.shape, width)
