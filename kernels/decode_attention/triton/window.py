"""A split of the full-precision window."""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound, load_words
from autokv.kernels.decode_attention.triton.softmax import FLOOR, query_plane, store_lse, store_plane, weigh


@triton.jit
def attend_window(
    query,
    k_window,
    v_window,
    partial,
    partial_lse,
    row,
    queries,
    here,
    lse_place,
    split,
    scaling,
    softcap,
    newest,
    first,
    window_chunk,
    k_capacity,
    v_capacity,
    HEAD_DIM: tl.constexpr,
    PARTIAL_WIDTH: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SLIDING: tl.constexpr,
    INTERPRETED: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Attend to tokens ``split * window_chunk`` and on; those before ``first`` are hidden."""
    slot = lse_place * PARTIAL_WIDTH
    best = tl.full([HEADS], FLOOR, tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    begin = split * window_chunk
    end = tl.minimum(begin + window_chunk, newest)
    if SLIDING:
        begin = tl.maximum(begin, first // TOKENS * TOKENS)
    keys = k_window + row.to(tl.int64) * k_capacity * HEAD_DIM
    values = v_window + row.to(tl.int64) * v_capacity * HEAD_DIM
    q = query_plane(query, queries, here, HEAD_DIM, 0, 1, HEAD_DIM)
    q = q if INTERPRETED else q.to(k_window.dtype.element_ty)
    sums = tl.zeros([max(triton.next_power_of_2(HEAD_DIM), 16), HEADS], tl.float32)
    for token in tl.range(bound(begin, INTERPRETED), bound(end, INTERPRETED), TOKENS, num_stages=2):
        tokens = token + tl.arange(0, TOKENS)
        inside = tokens < end
        key = load_words(keys, tokens, inside, 0, HEAD_DIM, HEAD_DIM, False)
        value = load_words(values, tokens, inside, 0, HEAD_DIM, HEAD_DIM, True)
        key = key.to(tl.float32) if INTERPRETED else key
        value = value.to(tl.float32) if INTERPRETED else value
        visible = inside & (tokens >= first)
        weights, shrink, best, total = weigh(tl.dot(key, q), visible, scaling, softcap, best, total, SOFTCAP)
        sums = tl.dot(value, weights.to(value.dtype), sums * shrink[None, :])
    sums /= tl.maximum(total, 1e-30)[None, :]
    store_plane(partial, slot, here, sums, HEAD_DIM, 0, 1, HEAD_DIM)
    store_lse(partial_lse + lse_place, here, best, total)
