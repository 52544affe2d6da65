"""Attention received, in Triton: one pass for every query's log-sum-exp, one for every token's share.

The rows of a tile are queries of one KV head, query by query and within a query head by head, so that a tile of rows
spans few positions and most of what causality hides is never worked out.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autokv.kernels.autotune import Launch, bucket, choose
from autokv.kernels.decode_attention.triton.codes import bound
from autokv.kernels.decode_attention.triton.softmax import LOG2_E
from autokv.kernels.triton_backend import interpreted, multiprocessors

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
_LN2 = 0.6931471805599453


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
    wanted = -(-multiprocessors(query.device) * PROGRAMS_PER_PROCESSOR // (row_tiles * pairs))
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


@triton.jit
def _load_queries(query, query_head_stride, query_stride, row, rows, GROUP, HEAD_DIM, CHANNELS, INTERPRETED):
    channel = tl.arange(0, CHANNELS)
    start = query + (row % GROUP).to(tl.int64) * query_head_stride + (row // GROUP).to(tl.int64) * query_stride
    mask = (row < rows)[:, None] & (channel < HEAD_DIM)[None, :]
    found = tl.load(start[:, None] + channel[None, :], mask=mask, other=0.0)
    if INTERPRETED:  # which multiplies 16-bit matrices wrongly
        found = found.to(tl.float32)
    return found


@triton.jit
def _load_keys(keys, key_stride, place, tokens, HEAD_DIM, CHANNELS, INTERPRETED):
    """``[channels, places]``."""
    channel = tl.arange(0, CHANNELS)
    mask = (channel < HEAD_DIM)[:, None] & (place < tokens)[None, :]
    found = tl.load(keys + place.to(tl.int64)[None, :] * key_stride + channel[:, None], mask=mask, other=0.0)
    if INTERPRETED:  # which multiplies 16-bit matrices wrongly
        found = found.to(tl.float32)
    return found


@triton.jit
def _scores(queries, keys, scaling, softcap, SOFTCAP, PRECISION):
    """Scores in units of log 2."""
    scores = tl.dot(queries, keys, input_precision=PRECISION) * scaling
    if SOFTCAP:
        # tanh(x) = 1 - 2 / (exp(2 x) + 1), which holds at both infinities of exp.
        scores = softcap * (1.0 - 2.0 / (tl.exp2(scores * (2.0 * LOG2_E / softcap)) + 1.0))
    return scores * LOG2_E


@triton.jit
def row_sums(
    query,
    query_batch_stride,
    query_head_stride,
    query_stride,
    keys,
    key_batch_stride,
    key_head_stride,
    key_stride,
    sums,
    kv_heads,
    window,
    tokens,
    chunk,
    splits,
    scaling,
    softcap,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    CHANNELS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    INTERPRETED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Base-2 log-sum-exp of ``ROWS`` rows over a chunk of tokens, to ``sums`` ``[batch * kv_heads, splits, rows]``."""
    split = tl.program_id(1)
    pair = tl.program_id(2)
    batch, head = (pair // kv_heads).to(tl.int64), (pair % kv_heads).to(tl.int64)
    rows = window * GROUP
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    queries = _load_queries(
        query + batch * query_batch_stride + head * GROUP * query_head_stride,
        query_head_stride,
        query_stride,
        row,
        rows,
        GROUP,
        HEAD_DIM,
        CHANNELS,
        INTERPRETED,
    )
    base = keys + batch * key_batch_stride + head * key_head_stride
    position = tokens - window + row // GROUP
    last = tokens - window + (tl.program_id(0) * ROWS + ROWS - 1) // GROUP + 1
    stop = tl.minimum(tl.minimum(last, tokens), (split + 1) * chunk)
    m = tl.full([ROWS], float("-inf"), tl.float32)
    l = tl.zeros([ROWS], tl.float32)
    for first in range(bound(split * chunk, INTERPRETED), bound(stop, INTERPRETED), PLACES):
        place = first + tl.arange(0, PLACES)
        found = _load_keys(base, key_stride, place, tokens, HEAD_DIM, CHANNELS, INTERPRETED)
        scores = _scores(queries, found, scaling, softcap, SOFTCAP, PRECISION)
        scores = tl.where(place[None, :] <= position[:, None], scores, float("-inf"))
        m_new = tl.maximum(m, tl.max(scores, axis=1))
        # A row that has seen nothing yet has no largest score to subtract.
        base_score = tl.where(m_new == float("-inf"), 0.0, m_new)
        l = l * tl.exp2(m - base_score) + tl.sum(tl.exp2(scores - base_score[:, None]), axis=1)
        m = m_new
    lse = tl.where(l > 0.0, m + tl.log2(tl.where(l > 0.0, l, 1.0)), float("-inf"))
    tl.store(sums + (pair.to(tl.int64) * splits + split) * rows + row, lse, mask=row < rows)


@triton.jit
def column_sums(
    query,
    query_batch_stride,
    query_head_stride,
    query_stride,
    keys,
    key_batch_stride,
    key_head_stride,
    key_stride,
    sums,
    received,
    kv_heads,
    window,
    tokens,
    scaling,
    softcap,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    CHANNELS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    INTERPRETED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    PLACES: tl.constexpr,
):
    """What ``PLACES`` tokens receive from every row; ``sums`` ``[batch * kv_heads, rows]`` are over all tokens."""
    pair = tl.program_id(1)
    batch, head = (pair // kv_heads).to(tl.int64), (pair % kv_heads).to(tl.int64)
    rows = window * GROUP
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    found = _load_keys(
        keys + batch * key_batch_stride + head * key_head_stride,
        key_stride,
        place,
        tokens,
        HEAD_DIM,
        CHANNELS,
        INTERPRETED,
    )
    base = query + batch * query_batch_stride + head * GROUP * query_head_stride
    # The first query that sees any of these tokens.
    first = tl.maximum(tl.program_id(0) * PLACES - (tokens - window), 0) * GROUP // ROWS * ROWS
    total = tl.zeros([PLACES], tl.float32)
    for start in range(bound(first, INTERPRETED), bound(rows, INTERPRETED), ROWS):
        row = start + tl.arange(0, ROWS)
        queries = _load_queries(
            base, query_head_stride, query_stride, row, rows, GROUP, HEAD_DIM, CHANNELS, INTERPRETED
        )
        scores = _scores(queries, found, scaling, softcap, SOFTCAP, PRECISION)
        row_sum = tl.load(sums + pair.to(tl.int64) * rows + row, mask=row < rows, other=float("inf"))
        seen = place[None, :] <= (tokens - window + row // GROUP)[:, None]
        total += tl.sum(tl.where(seen, tl.exp2(scores - row_sum[:, None]), 0.0), axis=0)
    tl.store(received + pair.to(tl.int64) * tokens + place, total / GROUP, mask=place < tokens)
