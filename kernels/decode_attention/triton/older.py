"""A split of the older tokens, read as they are packed."""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound, load_high_words, load_plane, load_words
from autokv.kernels.decode_attention.triton.softmax import FLOOR, query_plane, store_lse, store_plane, weigh


@triton.jit
def attend_older(
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
    partial,
    partial_lse,
    row,
    start,
    length,
    queries,
    here,
    lse_place,
    begin,
    scaling,
    softcap,
    longest,
    first,
    chunk,
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
    INTERPRETED: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Attend to ``chunk`` tokens from ``begin`` on, of a row of ``length`` that starts at ``start``.

    Those before ``first`` are hidden.
    """
    slot = lse_place * PARTIAL_WIDTH
    best = tl.full([HEADS], FLOOR, tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    K_PLANES: tl.constexpr = K_SHIFTS * K_EACH
    V_PLANES: tl.constexpr = V_SHIFTS * V_EACH
    K_WORDS: tl.constexpr = K_BYTES // K_RANGES // K_EACH
    V_WORDS: tl.constexpr = V_BYTES // V_RANGES // V_EACH
    K_STRIDE: tl.constexpr = K_BYTES // K_EACH * 3 // 2 if K_FORMAT == "int3" else K_BYTES // K_EACH
    V_STRIDE: tl.constexpr = V_BYTES // V_EACH * 3 // 2 if V_FORMAT == "int3" else V_BYTES // V_EACH
    V_PADDED: tl.constexpr = max(triton.next_power_of_2(V_WORDS), 16)
    V_RANK_PADDED: tl.constexpr = max(triton.next_power_of_2(V_RANK), 16)
    key_type = k_codes.dtype.element_ty if K_FORMAT == "plain" else tl.float16
    key_type = tl.float32 if INTERPRETED else key_type
    value_type = v_codes.dtype.element_ty if V_FORMAT == "plain" else tl.float16
    value_type = tl.float32 if INTERPRETED else value_type

    end = tl.minimum(begin + chunk, length)
    if SLIDING:
        begin = tl.maximum(begin, first // TOKENS * TOKENS)
    if K_AXIS == "row":
        scaling = scaling * tl.load(k_scale + row) * 256
    k_group_start, v_group_start = start, start
    if K_AXIS == "channel":
        k_group_start = row.to(tl.int64) * ((longest + K_GROUP - 1) // K_GROUP)
        if RAGGED:
            k_group_start = tl.load(k_groups + row)
    if V_AXIS == "channel":
        v_group_start = row.to(tl.int64) * ((longest + V_GROUP - 1) // V_GROUP)
        if RAGGED:
            v_group_start = tl.load(v_groups + row)
    k_factors = k_group_start * (K_WIDTH if K_AXIS == "channel" else K_WIDTH // K_GROUP)
    v_factors = v_group_start * (V_WIDTH if V_AXIS == "channel" else V_WIDTH // V_GROUP)
    keys, values = k_codes, v_codes
    if K_EACH == 2:
        keys = k_codes.to(tl.pointer_type(tl.int16), bitcast=True)
    if V_EACH == 2:
        values = v_codes.to(tl.pointer_type(tl.int16), bitcast=True)
    keys += start * K_STRIDE
    values += start * V_STRIDE

    q = ()
    for r in tl.static_range(K_RANGES):
        for p in tl.static_range(K_PLANES):
            q_plane = query_plane(
                query_older, queries, here, K_WIDTH,
                p // K_EACH * K_BYTES + r * (K_BYTES // K_RANGES) + p % K_EACH, K_EACH, K_WORDS,
            )  # fmt: skip
            q += (q_plane.to(key_type),)  # type: ignore[assignment]
    if K_RANK:
        q_left = query_plane(query_left, queries, here, K_RANK, 0, 1, K_RANK)
        q_left = q_left if INTERPRETED else q_left.to(k_left.dtype.element_ty)
    sums = ()
    for _p in tl.static_range(V_RANGES * V_PLANES):
        sums += (tl.zeros([V_PADDED, HEADS], tl.float32),)  # type: ignore[assignment]
    sums_left = tl.zeros([V_RANK_PADDED, HEADS], tl.float32)
    for token in tl.range(bound(begin, INTERPRETED), bound(end, INTERPRETED), TOKENS):
        tokens = token + tl.arange(0, TOKENS)
        inside = tokens < end
        scores = tl.zeros([TOKENS, HEADS], tl.float32)
        for r in tl.static_range(K_RANGES):
            words = load_words(keys, tokens, inside, r * K_WORDS, K_WORDS, K_STRIDE, False)
            words = words.to(tl.int16) if K_FORMAT != "plain" else words
            high = words
            if K_FORMAT == "int3":
                high = load_high_words(keys, tokens, inside, K_BYTES, K_EACH, K_STRIDE, False)
            for p in tl.static_range(K_PLANES):
                plane = load_plane(
                    words, high, k_scale, k_minimum, k_factors, tokens, inside, token, TOKENS, K_FORMAT, K_AXIS,
                    K_GROUP, K_WIDTH, K_BYTES, K_EACH, K_RANGES, r, p // K_EACH, p % K_EACH, False, INTERPRETED,
                )  # fmt: skip
                scores = tl.dot(plane.to(key_type), q[r * K_PLANES + p], scores)
        if K_RANK:
            left = load_words(k_left + start * K_RANK, tokens, inside, 0, K_RANK, K_RANK, False)
            left = left.to(tl.float32) if INTERPRETED else left
            correction = tl.dot(left, q_left)
            if K_AXIS == "row":
                correction /= tl.load(k_scale + row) * 256
            scores += correction
        weights, shrink, best, total = weigh(scores, inside & (tokens >= first), scaling, softcap, best, total, SOFTCAP)
        weight = weights.to(value_type)
        added = ()
        for r in tl.static_range(V_RANGES):
            words = load_words(values, tokens, inside, r * V_WORDS, V_WORDS, V_STRIDE, True)
            words = words.to(tl.int16) if V_FORMAT != "plain" else words
            high = words
            if V_FORMAT == "int3":
                high = load_high_words(values, tokens, inside, V_BYTES, V_EACH, V_STRIDE, True)
            for p in tl.static_range(V_PLANES):
                plane = load_plane(
                    words, high, v_scale, v_minimum, v_factors, tokens, inside, token, TOKENS, V_FORMAT, V_AXIS,
                    V_GROUP, V_WIDTH, V_BYTES, V_EACH, V_RANGES, r, p // V_EACH, p % V_EACH, True, INTERPRETED,
                )  # fmt: skip
                product = tl.dot(plane.to(value_type), weight, sums[r * V_PLANES + p] * shrink[None, :])
                added += (product,)  # type: ignore[assignment]
        sums = added
        if V_RANK:
            left = load_words(v_left + start * V_RANK, tokens, inside, 0, V_RANK, V_RANK, True)
            left = left.to(tl.float32) if INTERPRETED else left
            sums_left = tl.dot(left, weights.to(left.dtype), sums_left * shrink[None, :])
    inverse = 1 / tl.maximum(total, 1e-30)
    if V_RANK:
        store_plane(partial, slot + V_WIDTH, here, sums_left * inverse[None, :], V_RANK, 0, 1, V_RANK)
    if V_AXIS == "row":
        inverse *= tl.load(v_scale + row) * 256
    for r in tl.static_range(V_RANGES):
        for p in tl.static_range(V_PLANES):
            store_plane(
                partial, slot, here, sums[r * V_PLANES + p] * inverse[None, :], V_WIDTH,
                p // V_EACH * V_BYTES + r * (V_BYTES // V_RANGES) + p % V_EACH, V_EACH, V_WORDS,
            )  # fmt: skip
    store_lse(partial_lse + lse_place, here, best, total)
