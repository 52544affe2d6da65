"""A split of the older tokens, read as they are packed."""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound, load_bytes, load_high_bits, load_plane
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
    split,
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
    V_FORMAT: tl.constexpr,
    V_AXIS: tl.constexpr,
    V_GROUP: tl.constexpr,
    V_WIDTH: tl.constexpr,
    V_RANK: tl.constexpr,
    RAGGED: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SLIDING: tl.constexpr,
    INTERPRETED: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Attend to ``chunk`` tokens of a row that has ``length`` from ``start`` on; those before ``first`` are hidden."""
    slot = lse_place * PARTIAL_WIDTH
    best = tl.full([HEADS], FLOOR, tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    K_PLANES: tl.constexpr = 2 if K_FORMAT == "int4" else 4 if K_FORMAT == "int2" or K_FORMAT == "int3" else 1
    V_PLANES: tl.constexpr = 2 if V_FORMAT == "int4" else 4 if V_FORMAT == "int2" or V_FORMAT == "int3" else 1
    K_BYTES: tl.constexpr = (K_WIDTH + 7) // 8 * 2 if K_FORMAT == "int3" else (K_WIDTH + K_PLANES - 1) // K_PLANES
    V_BYTES: tl.constexpr = (V_WIDTH + 7) // 8 * 2 if V_FORMAT == "int3" else (V_WIDTH + V_PLANES - 1) // V_PLANES
    K_STRIDE: tl.constexpr = K_BYTES * 3 // 2 if K_FORMAT == "int3" else K_BYTES
    V_STRIDE: tl.constexpr = V_BYTES * 3 // 2 if V_FORMAT == "int3" else V_BYTES
    V_PADDED: tl.constexpr = max(triton.next_power_of_2(V_BYTES), 16)
    V_RANK_PADDED: tl.constexpr = max(triton.next_power_of_2(V_RANK), 16)
    key_type = k_codes.dtype.element_ty if K_FORMAT == "plain" else tl.float16
    key_type = tl.float32 if INTERPRETED else key_type
    value_type = v_codes.dtype.element_ty if V_FORMAT == "plain" else tl.float16
    value_type = tl.float32 if INTERPRETED else value_type

    begin = split * chunk
    end = begin + chunk
    hidden = 0
    if SLIDING:
        hidden = tl.maximum(first, 0)
        end += hidden // chunk * chunk
        begin = tl.maximum(begin + hidden // chunk * chunk, hidden // TOKENS * TOKENS)
    end = tl.minimum(end, length)
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
    keys = k_codes + start * K_STRIDE
    values = v_codes + start * V_STRIDE

    q0 = query_plane(query_older, queries, here, K_WIDTH, 0, K_BYTES).to(key_type)
    q1, q2, q3 = q0, q0, q0
    if K_PLANES > 1:
        q1 = query_plane(query_older, queries, here, K_WIDTH, 1, K_BYTES).to(key_type)
    if K_PLANES > 2:
        q2 = query_plane(query_older, queries, here, K_WIDTH, 2, K_BYTES).to(key_type)
        q3 = query_plane(query_older, queries, here, K_WIDTH, 3, K_BYTES).to(key_type)
    if K_RANK:
        q_left = query_plane(query_left, queries, here, K_RANK, 0, K_RANK)
        q_left = q_left if INTERPRETED else q_left.to(k_left.dtype.element_ty)
    a0 = tl.zeros([HEADS, V_PADDED], tl.float32)
    a1, a2, a3 = a0, a0, a0
    a_left = tl.zeros([HEADS, V_RANK_PADDED], tl.float32)
    for token in tl.range(bound(begin, INTERPRETED), bound(end, INTERPRETED), TOKENS):
        tokens = token + tl.arange(0, TOKENS)
        inside = tokens < end
        stored = load_bytes(keys, tokens, inside, K_STRIDE, 0, K_BYTES)
        high = stored
        if K_FORMAT == "int3":
            high = load_high_bits(keys, tokens, inside, K_STRIDE, K_BYTES)
        plane = load_plane(stored, high, k_scale, k_minimum, k_factors, tokens, inside, token, TOKENS,
                           K_FORMAT, K_AXIS, K_GROUP, K_WIDTH, 0, K_BYTES)  # fmt: skip
        scores = tl.dot(q0, plane.to(key_type).T)
        if K_PLANES > 1:
            plane = load_plane(stored, high, k_scale, k_minimum, k_factors, tokens, inside, token, TOKENS,
                               K_FORMAT, K_AXIS, K_GROUP, K_WIDTH, 1, K_BYTES)  # fmt: skip
            scores = tl.dot(q1, plane.to(key_type).T, scores)
        if K_PLANES > 2:
            plane = load_plane(stored, high, k_scale, k_minimum, k_factors, tokens, inside, token, TOKENS,
                               K_FORMAT, K_AXIS, K_GROUP, K_WIDTH, 2, K_BYTES)  # fmt: skip
            scores = tl.dot(q2, plane.to(key_type).T, scores)
            plane = load_plane(stored, high, k_scale, k_minimum, k_factors, tokens, inside, token, TOKENS,
                               K_FORMAT, K_AXIS, K_GROUP, K_WIDTH, 3, K_BYTES)  # fmt: skip
            scores = tl.dot(q3, plane.to(key_type).T, scores)
        if K_RANK:
            left = load_bytes(k_left + start * K_RANK, tokens, inside, K_RANK, 0, K_RANK)
            left = left.to(tl.float32) if INTERPRETED else left
            correction = tl.dot(q_left, left.T)
            if K_AXIS == "row":
                correction /= tl.load(k_scale + row) * 256
            scores += correction
        weights, shrink, best, total = weigh(
            scores, inside & (tokens >= hidden), scaling, softcap, best, total, SOFTCAP
        )
        weight = weights.to(value_type)
        stored = load_bytes(values, tokens, inside, V_STRIDE, 0, V_BYTES)
        high = stored
        if V_FORMAT == "int3":
            high = load_high_bits(values, tokens, inside, V_STRIDE, V_BYTES)
        plane = load_plane(stored, high, v_scale, v_minimum, v_factors, tokens, inside, token, TOKENS,
                           V_FORMAT, V_AXIS, V_GROUP, V_WIDTH, 0, V_BYTES)  # fmt: skip
        a0 = tl.dot(weight, plane.to(value_type), a0 * shrink[:, None])
        if V_PLANES > 1:
            plane = load_plane(stored, high, v_scale, v_minimum, v_factors, tokens, inside, token, TOKENS,
                               V_FORMAT, V_AXIS, V_GROUP, V_WIDTH, 1, V_BYTES)  # fmt: skip
            a1 = tl.dot(weight, plane.to(value_type), a1 * shrink[:, None])
        if V_PLANES > 2:
            plane = load_plane(stored, high, v_scale, v_minimum, v_factors, tokens, inside, token, TOKENS,
                               V_FORMAT, V_AXIS, V_GROUP, V_WIDTH, 2, V_BYTES)  # fmt: skip
            a2 = tl.dot(weight, plane.to(value_type), a2 * shrink[:, None])
            plane = load_plane(stored, high, v_scale, v_minimum, v_factors, tokens, inside, token, TOKENS,
                               V_FORMAT, V_AXIS, V_GROUP, V_WIDTH, 3, V_BYTES)  # fmt: skip
            a3 = tl.dot(weight, plane.to(value_type), a3 * shrink[:, None])
        if V_RANK:
            left = load_bytes(v_left + start * V_RANK, tokens, inside, V_RANK, 0, V_RANK)
            left = left.to(tl.float32) if INTERPRETED else left
            a_left = tl.dot(weights.to(left.dtype), left, a_left * shrink[:, None])
    inverse = 1 / tl.maximum(total, 1e-30)
    if V_RANK:
        store_plane(partial, slot + V_WIDTH, here, a_left * inverse[:, None], V_RANK, 0, V_RANK)
    if V_AXIS == "row":
        inverse *= tl.load(v_scale + row) * 256
    store_plane(partial, slot, here, a0 * inverse[:, None], V_WIDTH, 0, V_BYTES)
    if V_PLANES > 1:
        store_plane(partial, slot, here, a1 * inverse[:, None], V_WIDTH, V_BYTES, V_BYTES)
    if V_PLANES > 2:
        store_plane(partial, slot, here, a2 * inverse[:, None], V_WIDTH, 2 * V_BYTES, V_BYTES)
        store_plane(partial, slot, here, a3 * inverse[:, None], V_WIDTH, 3 * V_BYTES, V_BYTES)
    store_lse(partial_lse + lse_place, here, best, total)
