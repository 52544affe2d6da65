"""Attention received, in float64 with the whole matrix: what every backend is held against."""

from __future__ import annotations

import torch
from torch import Tensor


def window_scores(query: Tensor, keys: Tensor, scaling: float, *, softcap: float | None = None) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.window_scores`."""
    window, tokens, group = query.shape[2], keys.shape[2], query.shape[1] // keys.shape[1]
    scores = query.double() @ keys.double().repeat_interleave(group, dim=1).mT * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    positions = torch.arange(tokens, device=keys.device)
    scores = scores.masked_fill(positions > positions[tokens - window :, None], -torch.inf)
    received = scores.softmax(dim=-1).sum(dim=2)
    return received.view(len(keys), -1, group, tokens).mean(dim=2).float()
