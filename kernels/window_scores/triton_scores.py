"""Attention received, in Triton: one pass for every query's log-sum-exp, one for every token's share."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from autokv.kernels.autotune import Launch, bucket, choose
from autokv.kernels.triton_backend import interpreted
from autokv.kernels.window_scores.triton_kernels import column_sums, row_sums

_LAUNCHES = (
    Launch.of(warps=4, stages=2, ROWS=64, PLACES=64),
    Launch.of(warps=8, stages=3, ROWS=128, PLACES=64),
    Launch.of(warps=8, stages=2, ROWS=64, PLACES=128),
)
# Values of 32 bits fill registers and shared memory twice as fast, and are multiplied in three parts.
_FLOAT32_LAUNCHES = (
    Launch.of(warps=4, stages=1, ROWS=32, PLACES=32),
    Launch.of(warps=8, stages=2, ROWS=64, PLACES=32),
)
PROGRAMS_PER_PROCESSOR = 4
"""Programs that the first pass is split into, where there are tokens enough."""
MIN_CHUNK = 512
"""Tokens of a split: fewer are not worth another."""


def window_scores(query: Tensor, keys: Tensor, scaling: float, *, softcap: float | None = None) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.window_scores`."""
    batch, heads, window, head_dim = query.shape
    kv_heads, tokens = keys.shape[1:3]
    group, pairs = heads // kv_heads, batch * kv_heads
    query, keys = (tensor if tensor.stride(3) == 1 else tensor.contiguous() for tensor in (query, keys))
    if query.dtype != keys.dtype:
        query, keys = query.float(), keys.float()
    key = (str(query.dtype).removeprefix("torch."), head_dim, group, bucket(pairs), bucket(window), bucket(tokens))
    launches = _FLOAT32_LAUNCHES if query.dtype == torch.float32 else _LAUNCHES
    launch = choose("window_scores", key, launches, query.device)
    row_tiles = -(-window * group // launch["ROWS"])
    wanted = -(-_processors(query.device) * PROGRAMS_PER_PROCESSOR // (row_tiles * pairs))
    splits = max(1, min(wanted, tokens // MIN_CHUNK))
    chunk = -(-tokens // (splits * launch["PLACES"])) * launch["PLACES"]
    common = {
        "scaling": scaling,
        "softcap": softcap or 1.0,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "CHANNELS": max(16, bucket(head_dim)),
        "SOFTCAP": softcap is not None,
        "INTERPRETED": interpreted(),
        "PRECISION": "tf32x3" if query.dtype == torch.float32 else "tf32",
        **launch.arguments(),
    }
    tensors = (query, *query.stride()[:3], keys, *keys.stride()[:3])
    partial = torch.empty(pairs, splits, window * group, dtype=torch.float32, device=query.device)
    row_sums[row_tiles, splits, pairs](*tensors, partial, kv_heads, window, tokens, chunk, splits, **common)
    sums = partial[:, 0] if splits == 1 else torch.logsumexp(partial * _LN2, dim=1) / _LN2
    received = torch.empty(batch, kv_heads, tokens, dtype=torch.float32, device=query.device)
    column_sums[-(-tokens // launch["PLACES"]), pairs](*tensors, sums, received, kv_heads, window, tokens, **common)
    return received


_LN2 = 0.6931471805599453


@lru_cache(maxsize=16)
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
