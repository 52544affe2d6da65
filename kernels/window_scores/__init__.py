"""Attention that tokens receive from an observation window, without a queries x tokens matrix."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_BYTES = {"cpu": 4 << 20}
"""Scores that are held at once: on a CPU what stays in its cache, where every pass over them is fast."""
OTHER_BLOCK_BYTES = 256 << 20
LEAST_QUERIES = 16
"""Queries of a block, however long the context: fewer make thin products."""
MOST_QUERIES = 128
"""More work out much that causality hides."""


def window_scores(query: Tensor, keys: Tensor, scaling: float, *, softcap: float | None = None) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.window_scores`; in PyTorch, a block of queries at a time."""
    batch, heads, window, head_dim = query.shape
    kv_heads, tokens = keys.shape[1:3]
    rows, group = batch * kv_heads, heads // kv_heads
    queries = query.reshape(rows, group, window, head_dim)
    received = torch.zeros(rows, tokens, device=keys.device)
    at_once = BLOCK_BYTES.get(keys.device.type, OTHER_BLOCK_BYTES) // 4 // tokens
    count = min(max(at_once // group, LEAST_QUERIES), MOST_QUERIES, window)
    stride = max(at_once // (group * count), 1)
    for row, some in enumerate(torch.split(keys.reshape(rows, tokens, head_dim), stride)):
        part = slice(row * stride, row * stride + len(some))
        transposed = some.float().mT
        for start in range(0, window, count):
            chunk = queries[part, :, start : start + count].float() * scaling
            # The first query of the block is token `first`; none of them sees a token from `seen` on.
            first = tokens - window + start
            seen = first + chunk.shape[2]
            scores = chunk.flatten(1, 2) @ transposed[..., :seen]
            if softcap is not None:
                scores = scores.div_(softcap).tanh_().mul_(softcap)
            own = scores.view(*chunk.shape[:3], seen)[..., first:]
            own.masked_fill_(torch.ones_like(own[0, 0], dtype=torch.bool).triu_(1), -torch.inf)
            received[part, :seen] += scores.softmax(dim=-1).sum(dim=1)
    return received.div_(group).view(batch, kv_heads, tokens)
