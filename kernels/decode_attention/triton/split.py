"""Attention over one split of one row: the kernel that reads the cache.

A program takes one row (batch entry and KV head), a tile of its query heads and one split of its tokens, and leaves a
normalised output with its log-sum-exp. The last splits are those of the residual window. Scores are kept in units of
log2, in which exponentials are one instruction.
"""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound, load_words
from autokv.kernels.decode_attention.triton.older import attend_older
from autokv.kernels.decode_attention.triton.softmax import FLOOR, load_queries, online_softmax, store_lse, store_output
from autokv.kernels.decode_attention.triton.structures import Program, Sizes, Tile


# What changes from step to step must not be compiled for anew, as Triton does for the numbers in a tuple.
@triton.jit(do_not_specialize=Sizes._fields)
def split_kernel(
    query,
    keys,
    values,
    ragged,
    partial,
    scaling,
    softcap,
    longest,
    residual_tokens,
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
    SHAPE: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
    NEWEST: tl.constexpr,
):
    """Grid: (rows * tiles of query heads, splits of the older tokens, then of the residual window).

    See :mod:`.structures`; ``K`` and ``V`` are the :class:`.structures.Format` of the keys and the values. A tile is
    ``HEADS`` query heads by ``TOKENS`` older tokens, or by ``NEWEST`` of the residual window.
    """
    sizes = Sizes(
        longest, residual_tokens, later, sliding_window, chunk, older_splits, window_chunk, k_capacity, v_capacity,
        first_slot, window_slot, slots,
    )  # fmt: skip
    TILES: tl.constexpr = (SHAPE.group + HEADS - 1) // HEADS
    row = tl.program_id(0) // TILES
    split = tl.program_id(1)
    heads = (tl.program_id(0) % TILES) * HEADS + tl.arange(0, HEADS)
    queries = row * SHAPE.group + heads
    slot = queries.to(tl.int64) * sizes.slots
    slot += tl.where(
        split < sizes.older_splits, sizes.first_slot + split, sizes.window_slot + split - sizes.older_splits
    )
    program = Program(row, queries, heads < SHAPE.group, slot)
    start = row.to(tl.int64) * sizes.longest
    length = sizes.longest
    if SHAPE.ragged:
        start = tl.load(ragged.offsets + row)
        length = (tl.load(ragged.offsets + row + 1) - start).to(tl.int32)
    first = 0
    if SHAPE.sliding:
        behind = sizes.later + sizes.residual_tokens
        if ragged.later is not None:
            behind += tl.load(ragged.later + row).to(tl.int32)
        first = length + behind - sizes.sliding_window

    if SHAPE.has_window and (not SHAPE.has_older or split >= sizes.older_splits):
        attend_window(
            query, keys, values, partial, program, split - sizes.older_splits, first - length, scaling, softcap, sizes,
            SHAPE, HEADS, NEWEST,
        )  # fmt: skip
    elif SHAPE.has_older:
        begin = split * sizes.chunk
        if SHAPE.sliding:
            begin += tl.maximum(first, 0) // sizes.chunk * sizes.chunk
        if begin < length:
            attend_older(
                query, keys, values, partial, program, start, length, begin, first, scaling, softcap, sizes,
                SHAPE, K, V, HEADS, TOKENS,
            )  # fmt: skip
        else:
            # The row ends before this split: no output, which the merge then does not read.
            tl.store(partial.lse + slot, tl.full([HEADS], -float("inf"), tl.float32), mask=program.here)


@triton.jit
def attend_window(
    query,
    keys,
    values,
    partial,
    program,
    split,
    first,
    scaling,
    softcap,
    sizes,
    SHAPE: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Attend to the residual window's tokens ``split * window_chunk`` and on; those before ``first`` are hidden."""
    HEAD_DIM: tl.constexpr = SHAPE.head_dim
    m = tl.full([HEADS], FLOOR, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    begin = split * sizes.window_chunk
    end = tl.minimum(begin + sizes.window_chunk, sizes.residual_tokens)
    if SHAPE.sliding:
        begin = tl.maximum(begin, first // TOKENS * TOKENS)
    row = program.row.to(tl.int64)
    k_window = keys.residual_window + row * sizes.k_capacity * HEAD_DIM
    v_window = values.residual_window + row * sizes.v_capacity * HEAD_DIM
    q = load_queries(query.states, program, HEAD_DIM, 0, 1, HEAD_DIM)
    q = q if SHAPE.interpreted else q.to(k_window.dtype.element_ty)
    acc = tl.zeros([max(triton.next_power_of_2(HEAD_DIM), 16), HEADS], tl.float32)
    for token in tl.range(bound(begin, SHAPE.interpreted), bound(end, SHAPE.interpreted), TOKENS, num_stages=2):
        tokens = token + tl.arange(0, TOKENS)
        tile = Tile(tokens, tokens < end, token)
        k = load_words(k_window, tile, 0, HEAD_DIM, HEAD_DIM, False)
        v = load_words(v_window, tile, 0, HEAD_DIM, HEAD_DIM, True)
        k = k.to(tl.float32) if SHAPE.interpreted else k
        v = v.to(tl.float32) if SHAPE.interpreted else v
        visible = tile.inside & (tokens >= first)
        p, alpha, m, l = online_softmax(tl.dot(k, q), visible, scaling, softcap, m, l, SHAPE.softcap)
        acc = tl.dot(v, p.to(v.dtype), acc * alpha[None, :])
    acc /= tl.maximum(l, 1e-30)[None, :]
    store_output(partial, program, acc, SHAPE.partial_width, 0, HEAD_DIM, 0, 1, HEAD_DIM)
    store_lse(partial, program, m, l)
