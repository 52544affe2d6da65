"""Attention received, in PyTorch: a chunk of queries at a time."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 256
"""Queries whose attention is held at once."""


def window_scores(query: Tensor, keys: Tensor, scaling: float, *, softcap: float | None = None) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.window_scores`."""
    batch, heads, window, head_dim = query.shape
    kv_heads, tokens = keys.shape[1:3]
    transposed = keys.float().mT
    place = torch.arange(tokens, device=keys.device)
    received = transposed.new_zeros(batch, kv_heads, tokens)
    for start in range(0, window, CHUNK):
        chunk = query[:, :, start : start + CHUNK].float()
        count = chunk.shape[2]
        # The first query of the chunk is token `first`; no query of the chunk sees a token from `seen` on.
        first = tokens - window + start
        seen = first + count
        scores = chunk.reshape(batch, kv_heads, -1, head_dim) @ transposed[..., :seen]
        scores = scores.mul_(scaling).view(batch, kv_heads, -1, count, seen)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores[..., first:].masked_fill_(place[:count] > place[:count, None], -torch.inf)
        received[..., :seen] += scores.softmax(dim=-1).sum(dim=(2, 3))
    return received / (heads // kv_heads)
