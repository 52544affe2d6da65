"""A split of the older tokens, read as they are packed."""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound, load_plane, load_range, load_words
from autokv.kernels.decode_attention.triton.softmax import FLOOR, load_queries, online_softmax, store_lse, store_output
from autokv.kernels.decode_attention.triton.structures import Row, Tile


@triton.jit
def start_of(side, row, start, longest, FORM: tl.constexpr, RAGGED: tl.constexpr):
    """Where a row that starts at token ``start`` lies in a side's storage."""
    group = start
    if FORM.axis == "channel":
        group = row.to(tl.int64) * ((longest + FORM.group_size - 1) // FORM.group_size)
        if RAGGED:
            group = tl.load(side.groups + row)
    words = side.codes
    if FORM.each == 2:
        words = words.to(tl.pointer_type(tl.int16), bitcast=True)
    # What a form does not have is not read; a tuple that is returned cannot hold None.
    scale, minimum, left = words, words, words
    if FORM.axis == "row":
        scale = side.scale + row
    elif FORM.axis != "none":
        scale = side.scale + group * FORM.scales
        minimum = side.minimum + group * FORM.scales
    if FORM.rank:
        left = side.low_rank_left + start * FORM.rank
    return Row(words + start * FORM.stride, scale, minimum, left)


@triton.jit
def attend_older(
    query,
    keys,
    values,
    partial,
    program,
    start,
    length,
    begin,
    first,
    scaling,
    softcap,
    sizes,
    SHAPE: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Attend to ``chunk`` tokens from ``begin`` on, of a row of ``length`` that starts at ``start``.

    Those before ``first`` are hidden.
    """
    K_RANGES: tl.constexpr = K.ranges
    K_PLANES: tl.constexpr = K.planes
    V_RANGES: tl.constexpr = V.ranges
    V_PLANES: tl.constexpr = V.planes
    INTERPRETED: tl.constexpr = SHAPE.interpreted
    key_type = keys.codes.dtype.element_ty if K.name == "plain" else tl.float16
    key_type = tl.float32 if INTERPRETED else key_type
    value_type = values.codes.dtype.element_ty if V.name == "plain" else tl.float16
    value_type = tl.float32 if INTERPRETED else value_type

    end = tl.minimum(begin + sizes.chunk, length)
    if SHAPE.sliding:
        begin = tl.maximum(begin, first // TOKENS * TOKENS)
    k_row = start_of(keys, program.row, start, sizes.longest, K, SHAPE.ragged)
    v_row = start_of(values, program.row, start, sizes.longest, V, SHAPE.ragged)
    if K.axis == "row":
        scaling = scaling * tl.load(k_row.scale) * 256

    q = ()
    for r in tl.static_range(K_RANGES):
        for p in tl.static_range(K_PLANES):
            q_plane = load_queries(
                query.coordinates, program, K.width,
                p // K.each * K.bytes + r * (K.bytes // K.ranges) + p % K.each, K.each, K.words,
            )  # fmt: skip
            q += (q_plane.to(key_type),)  # type: ignore[assignment]
    if K.rank:
        q_low_rank = load_queries(query.low_rank, program, K.rank, 0, 1, K.rank)
        q_low_rank = q_low_rank if INTERPRETED else q_low_rank.to(k_row.low_rank_left.dtype.element_ty)
    m = tl.full([HEADS], FLOOR, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = ()
    for _p in tl.static_range(V_RANGES * V_PLANES):
        acc += (tl.zeros([max(triton.next_power_of_2(V.words), 16), HEADS], tl.float32),)  # type: ignore[assignment]
    acc_low_rank = tl.zeros([max(triton.next_power_of_2(V.rank), 16), HEADS], tl.float32)
    for token in tl.range(bound(begin, INTERPRETED), bound(end, INTERPRETED), TOKENS):
        tokens = token + tl.arange(0, TOKENS)
        tile = Tile(tokens, tokens < end, token)
        scores = tl.zeros([TOKENS, HEADS], tl.float32)
        for r in tl.static_range(K_RANGES):
            words, high = load_range(k_row, tile, r, K, False)
            for p in tl.static_range(K_PLANES):
                plane = load_plane(words, high, k_row, tile, K, r, p // K.each, p % K.each, False, INTERPRETED)
                scores = tl.dot(plane.to(key_type), q[r * K_PLANES + p], scores)
        if K.rank:
            left = load_words(k_row.low_rank_left, tile, 0, K.rank, K.rank, False)
            left = left.to(tl.float32) if INTERPRETED else left
            residual = tl.dot(left, q_low_rank)
            if K.axis == "row":
                residual /= tl.load(k_row.scale) * 256
            scores += residual
        visible = tile.inside & (tokens >= first)
        p_all, alpha, m, l = online_softmax(scores, visible, scaling, softcap, m, l, SHAPE.softcap)
        weights = p_all.to(value_type)
        added = ()
        for r in tl.static_range(V_RANGES):
            words, high = load_range(v_row, tile, r, V, True)
            for p in tl.static_range(V_PLANES):
                plane = load_plane(words, high, v_row, tile, V, r, p // V.each, p % V.each, True, INTERPRETED)
                product = tl.dot(plane.to(value_type), weights, acc[r * V_PLANES + p] * alpha[None, :])
                added += (product,)  # type: ignore[assignment]
        acc = added
        if V.rank:
            left = load_words(v_row.low_rank_left, tile, 0, V.rank, V.rank, True)
            left = left.to(tl.float32) if INTERPRETED else left
            acc_low_rank = tl.dot(left, p_all.to(left.dtype), acc_low_rank * alpha[None, :])
    inverse = 1 / tl.maximum(l, 1e-30)
    if V.rank:
        acc_low_rank *= inverse[None, :]
        store_output(partial, program, acc_low_rank, SHAPE.partial_width, V.width, V.rank, 0, 1, V.rank)
    if V.axis == "row":
        inverse *= tl.load(v_row.scale) * 256
    for r in tl.static_range(V_RANGES):
        for p in tl.static_range(V_PLANES):
            store_output(
                partial, program, acc[r * V_PLANES + p] * inverse[None, :], SHAPE.partial_width, 0, V.width,
                p // V.each * V.bytes + r * (V.bytes // V.ranges) + p % V.each, V.each, V.words,
            )  # fmt: skip
    store_lse(partial, program, m, l)
