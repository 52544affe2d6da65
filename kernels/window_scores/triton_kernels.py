"""Attention received, as device code.

The rows of a tile are queries of one KV head, query by query and within a query head by head, so that a tile of rows
spans few positions and most of what causality hides is never worked out.
"""

from __future__ import annotations

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound
from autokv.kernels.decode_attention.triton.softmax import LOG2_E


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
