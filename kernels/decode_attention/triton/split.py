"""Attention over one split of one row: the kernel that reads the cache.

A program takes one row (batch entry and KV head), a tile of its query heads and one split of its tokens, and leaves a
normalised output with its log-sum-exp. The last splits are those of the full-precision window. Scores are kept in
units of log2, in which exponentials are one instruction.
"""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.older import attend_older
from autokv.kernels.decode_attention.triton.window import attend_window

# What changes from step to step must not be compiled for anew.
_RUNTIME = [
    "later",
    "sliding_window",
    "longest",
    "newest",
    "chunk",
    "older_splits",
    "window_chunk",
    "k_capacity",
    "v_capacity",
    "first_slot",
    "window_slot",
    "slots",
]


@triton.jit(do_not_specialize=_RUNTIME)
def split_kernel(
    query,
    query_older,
    query_left,
    k_codes,
    k_scale,
    k_minimum,
    k_groups,
    k_left,
    v_codes,
    v_scale,
    v_minimum,
    v_groups,
    v_left,
    offsets,
    later_tokens,
    k_window,
    v_window,
    partial,
    partial_lse,
    scaling,
    softcap,
    longest,
    newest,
    later,
    sliding_window,
    chunk,
    older_splits,
    window_chunk,
    k_capacity,
    v_capacity,
    first_slot,
    window_slot,
    slots,
    HEAD_DIM: tl.constexpr,
    GROUP: tl.constexpr,
    PARTIAL_WIDTH: tl.constexpr,
    K_FORMAT: tl.constexpr,
    K_AXIS: tl.constexpr,
    K_GROUP: tl.constexpr,
    K_WIDTH: tl.constexpr,
    K_RANK: tl.constexpr,
    K_BYTES: tl.constexpr,
    K_SHIFTS: tl.constexpr,
    K_EACH: tl.constexpr,
    K_RANGES: tl.constexpr,
    V_FORMAT: tl.constexpr,
    V_AXIS: tl.constexpr,
    V_GROUP: tl.constexpr,
    V_WIDTH: tl.constexpr,
    V_RANK: tl.constexpr,
    V_BYTES: tl.constexpr,
    V_SHIFTS: tl.constexpr,
    V_EACH: tl.constexpr,
    V_RANGES: tl.constexpr,
    RAGGED: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SLIDING: tl.constexpr,
    HAS_OLDER: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    INTERPRETED: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
    NEWEST: tl.constexpr,
):
    """Grid: (rows * tiles of query heads, splits of the older tokens, then of the window).

    ``query`` ``[rows * GROUP, HEAD_DIM]``; ``query_older`` the same in the basis of the keys; ``query_left`` times
    the right factor of the keys' correction. ``partial`` ``[rows * GROUP, slots, PARTIAL_WIDTH]``, of which a split of
    older tokens fills ``V_WIDTH + V_RANK``, one of the window ``HEAD_DIM``. ``INTERPRETED``: float32
    throughout, because the interpreter's bfloat16 is wrong.
    """
    TILES: tl.constexpr = (GROUP + HEADS - 1) // HEADS
    row = tl.program_id(0) // TILES
    split = tl.program_id(1)
    heads = (tl.program_id(0) % TILES) * HEADS + tl.arange(0, HEADS)
    here = heads < GROUP
    queries = row * GROUP + heads
    lse_place = queries.to(tl.int64) * slots
    lse_place += tl.where(split < older_splits, first_slot + split, window_slot + split - older_splits)
    start = row.to(tl.int64) * longest
    length = longest
    if RAGGED:
        start = tl.load(offsets + row)
        length = (tl.load(offsets + row + 1) - start).to(tl.int32)
    first = 0
    if SLIDING:
        behind = later + newest
        if later_tokens is not None:
            behind += tl.load(later_tokens + row).to(tl.int32)
        first = length + behind - sliding_window

    if HAS_WINDOW and (not HAS_OLDER or split >= older_splits):
        attend_window(
            query, k_window, v_window, partial, partial_lse, row, queries, here, lse_place, split - older_splits,
            scaling, softcap, newest, first - length, window_chunk, k_capacity, v_capacity,
            HEAD_DIM, PARTIAL_WIDTH, SOFTCAP, SLIDING, INTERPRETED, HEADS, NEWEST,
        )  # fmt: skip
    elif HAS_OLDER:
        begin = split * chunk
        if SLIDING:
            begin += tl.maximum(first, 0) // chunk * chunk
        if begin < length:
            attend_older(
                query_older, query_left, k_codes, k_scale, k_minimum, k_groups, k_left,
                v_codes, v_scale, v_minimum, v_groups, v_left, partial, partial_lse, row, start, length,
                queries, here, lse_place, begin, scaling, softcap, longest, first, chunk,
                PARTIAL_WIDTH, K_FORMAT, K_AXIS, K_GROUP, K_WIDTH, K_RANK, K_BYTES, K_SHIFTS, K_EACH, K_RANGES,
                V_FORMAT, V_AXIS, V_GROUP, V_WIDTH, V_RANK, V_BYTES, V_SHIFTS, V_EACH, V_RANGES,
                RAGGED, SOFTCAP, SLIDING, INTERPRETED, HEADS, TOKENS,
            )  # fmt: skip
        else:
            # The row ends before this split: no output, which the merge then does not read.
            tl.store(partial_lse + lse_place, tl.full([HEADS], -float("inf"), tl.float32), mask=here)
