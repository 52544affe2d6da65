"""Compaction one token at a time: what every backend is held against."""

from __future__ import annotations

import torch
from torch import Tensor


def evict_gather(tokens: Tensor, index: Tensor) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.evict_gather`."""
    gathered = torch.empty(*index.shape, tokens.shape[2], dtype=tokens.dtype, device=tokens.device)
    for row, places in enumerate(index.tolist()):
        for place, token in enumerate(places):
            gathered[row, place] = tokens[row, token]
    return gathered
