"""Quantization as device code: one read of the tokens, codes and scales straight to flat storage.

Every program works out a tile of packed bytes. Byte ``j`` holds channels ``j``, ``j + S`` ... (see ``packing``), so a
tile is computed as one piece of tokens x byte columns for each of a byte's codes, and nothing is interleaved. Rounding
follows ``integers`` and ``float8`` to the bit, which needs launches without the fusion of products and sums.
"""

from __future__ import annotations

import triton
import triton.language as tl

HALF_MAX = tl.constexpr(65504.0)
E4M3_MAX = tl.constexpr(448.0)
TINY = tl.constexpr(1.1754943508222875e-38)
ROUNDER = tl.constexpr(12582912.0)
"""1.5 * 2**23: a float32 up to 2**22 that has it added and taken away is rounded to an even integer."""


@triton.jit
def _coordinates(tokens, stride, place, inside, channel, seen, WIDTH, BLOCK, DEPTH, PRECISION):
    """float32 ``[places, channels]``, zero where not seen; rotated in blocks of ``BLOCK`` channels unless that is 0.

    A step of the rotation takes ``DEPTH`` channels in.
    """
    PLACES: tl.constexpr = place.shape[0]
    CHANNELS: tl.constexpr = channel.shape[0]
    start = tokens + place.to(tl.int64)[:, None] * stride
    if BLOCK == 0:
        x = tl.load(start + channel[None, :], mask=inside[:, None] & seen[None, :], other=0.0).to(tl.float32)
    else:
        x = tl.zeros([PLACES, CHANNELS], tl.float32)
        for first in range(0, WIDTH, DEPTH):
            depth = first + tl.arange(0, DEPTH)
            part = tl.load(start + depth[None, :], mask=inside[:, None] & (depth < WIDTH)[None, :], other=0.0)
            # Sylvester's matrix: -1 to the number of bits that row and column share.
            shared = depth[:, None] & channel[None, :] & (BLOCK - 1)
            shared ^= shared >> 8
            shared ^= shared >> 4
            shared ^= shared >> 2
            shared ^= shared >> 1
            together = (depth[:, None] // BLOCK == channel[None, :] // BLOCK) & seen[None, :]
            sign = tl.where(together, 1.0 - 2.0 * (shared & 1).to(tl.float32), 0.0)
            x = tl.dot(part.to(tl.float32), sign, x, input_precision=PRECISION)
        x = x * (1.0 / tl.sqrt(tl.full([1, 1], BLOCK, tl.float32)))
    return x


@triton.jit
def _round_up(x):
    """float32 to the nearest float16 that is not below, clamped to the finite range."""
    x = tl.minimum(tl.maximum(x, -HALF_MAX), HALF_MAX)
    half = x.to(tl.float16)
    bits = half.to(tl.int16, bitcast=True).to(tl.int32)
    step = tl.where(bits < 0, -1, 1)
    bits = tl.where(half.to(tl.float32) < x, bits + step, bits)
    return bits.to(tl.int16).to(tl.float16, bitcast=True)


@triton.jit
def _scaling(low, high, LEVELS):
    """Minimum and scale, rounded outwards to float16, of values from ``low`` to ``high``."""
    minimum = -_round_up(-low)
    spread = tl.minimum(tl.maximum(high, -HALF_MAX), HALF_MAX) - minimum.to(tl.float32)
    scale = _round_up(tl.div_rn(spread, tl.full(spread.shape, LEVELS, tl.float32)))
    return minimum, scale


@triton.jit
def _inverse(scale):
    """float32 reciprocal of a float16 scale; zero for zero."""
    scale = scale.to(tl.float32)
    return tl.where(scale == 0, 0.0, tl.div_rn(tl.full(scale.shape, 1.0, tl.float32), tl.where(scale == 0, 1.0, scale)))


@triton.jit
def _codes(x, low, inverse, LEVELS):
    scaled = (x - low) * inverse
    rounded = (scaled + ROUNDER) - ROUNDER
    return tl.minimum(tl.maximum(rounded, 0.0), LEVELS).to(tl.int32)


@triton.jit
def _row_of(offsets, longest, row, RAGGED):
    """Where a row starts in flat storage, and its length."""
    if RAGGED:
        start = tl.load(offsets + row)
        length = (tl.load(offsets + row + 1) - start).to(tl.int32)
    else:
        start = row.to(tl.int64) * longest
        length = longest
    return start, length


@triton.jit
def _store_bytes(codes, start, place, inside, column, even, odd, high, BITS, STEP, BYTES):
    """Write a tile of bytes; ``even`` holds them, save for 3 bit, whose two bytes and high bits are apart."""
    out = codes + (start + place)[:, None] * BYTES + column[None, :]
    mask = inside[:, None] & (column < STEP)[None, :]
    tl.store(out, even.to(tl.uint8), mask=mask)
    if BITS == 3:
        tl.store(out + STEP, odd.to(tl.uint8), mask=mask)
        tl.store(out + 2 * STEP, high.to(tl.uint8), mask=mask)


@triton.jit
def _add_codes(code, even, odd, high, index, BITS):
    """Put the codes of a byte's channel number ``index`` in their place."""
    if BITS == 3:
        # Eight channels share a byte of high bits; every second one of them shares a byte of low bits.
        low = (code & 3) << (index // 2 * 2)
        even |= tl.where(index % 2 == 0, low, 0)
        odd |= tl.where(index % 2 == 1, low, 0)
        high |= (code >> 2) << index
    else:
        even |= code << (index * BITS)
    return even, odd, high


@triton.jit
def quantize_by_channel(
    tokens,
    row_stride,
    token_stride,
    offsets,
    group_offsets,
    longest,
    longest_groups,
    codes,
    scale,
    minimum,
    WIDTH: tl.constexpr,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    STEP: tl.constexpr,
    BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    RAGGED: tl.constexpr,
    PLACES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One group of one row, ``COLUMNS`` byte columns of it: a scale per channel."""
    group = tl.program_id(0)
    row = tl.program_id(1)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    start, length = _row_of(offsets, longest, row, RAGGED)
    first_group, _ = _row_of(group_offsets, longest_groups, row, RAGGED)
    if group * GROUP < length:
        within = tl.arange(0, PLACES)
        place = group * GROUP + within
        inside = (within < GROUP) & (place < length)
        LEVELS: tl.constexpr = (1 << BITS) - 1
        even = tl.zeros([PLACES, COLUMNS], tl.int32)
        odd = tl.zeros([PLACES, COLUMNS], tl.int32)
        high = tl.zeros([PLACES, COLUMNS], tl.int32)
        for index in tl.range(SPLITS):
            channel = index * STEP + column
            seen = (column < STEP) & (channel < WIDTH)
            x = _coordinates(
                tokens + row.to(tl.int64) * row_stride,
                token_stride,
                place,
                inside,
                channel,
                seen,
                WIDTH,
                BLOCK,
                DEPTH,
                PRECISION,
            )
            lowest = tl.min(tl.where(inside[:, None], x, float("inf")), axis=0)
            highest = tl.max(tl.where(inside[:, None], x, float("-inf")), axis=0)
            half_minimum, half_scale = _scaling(lowest, highest, LEVELS)
            where = (first_group + group) * WIDTH + channel
            tl.store(minimum + where, half_minimum, mask=seen)
            tl.store(scale + where, half_scale, mask=seen)
            code = _codes(x, half_minimum.to(tl.float32)[None, :], _inverse(half_scale)[None, :], LEVELS)
            code = tl.where(seen[None, :], code, 0)
            even, odd, high = _add_codes(code, even, odd, high, index, BITS)
        _store_bytes(codes, start, place, inside, column, even, odd, high, BITS, STEP, BYTES)


@triton.jit
def quantize_by_token(
    tokens,
    row_stride,
    token_stride,
    offsets,
    longest,
    codes,
    scale,
    minimum,
    WIDTH: tl.constexpr,
    BITS: tl.constexpr,
    GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    STEP: tl.constexpr,
    BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    RAGGED: tl.constexpr,
    PLACES: tl.constexpr,
    COLUMNS: tl.constexpr,
    GROUP_COLUMNS: tl.constexpr,
):
    """``PLACES`` tokens of one row: a scale per token and group of channels."""
    row = tl.program_id(1)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    column = tl.arange(0, COLUMNS)
    start, length = _row_of(offsets, longest, row, RAGGED)
    if tl.program_id(0) * PLACES < length:
        inside = place < length
        base = tokens + row.to(tl.int64) * row_stride
        GROUPS: tl.constexpr = WIDTH // GROUP
        LEVELS: tl.constexpr = (1 << BITS) - 1
        even = tl.zeros([PLACES, COLUMNS], tl.int32)
        odd = tl.zeros([PLACES, COLUMNS], tl.int32)
        high = tl.zeros([PLACES, COLUMNS], tl.int32)
        member = tl.arange(0, GROUP_COLUMNS)
        for index in tl.range(SPLITS):
            channel = index * STEP + column
            seen = (column < STEP) & (channel < WIDTH)
            x = _coordinates(base, token_stride, place, inside, channel, seen, WIDTH, BLOCK, DEPTH, PRECISION)
            low = tl.zeros([PLACES, COLUMNS], tl.float32)
            inverse = tl.zeros([PLACES, COLUMNS], tl.float32)
            # The groups that share channels with this piece; the last one may reach into the next piece.
            for group in tl.range(index * STEP // GROUP, ((index + 1) * STEP + GROUP - 1) // GROUP):
                belongs = (member < GROUP) & (group < GROUPS)
                members = group * GROUP + member
                y = _coordinates(base, token_stride, place, inside, members, belongs, WIDTH, BLOCK, DEPTH, PRECISION)
                lowest = tl.min(tl.where(belongs[None, :], y, float("inf")), axis=1)
                highest = tl.max(tl.where(belongs[None, :], y, float("-inf")), axis=1)
                half_minimum, half_scale = _scaling(lowest, highest, LEVELS)
                mine = (channel // GROUP == group)[None, :]
                low = tl.where(mine, half_minimum.to(tl.float32)[:, None], low)
                inverse = tl.where(mine, _inverse(half_scale)[:, None], inverse)
                where = (start + place) * GROUPS + group
                first = inside & (group * GROUP >= index * STEP) & (group < GROUPS)
                tl.store(minimum + where, half_minimum, mask=first)
                tl.store(scale + where, half_scale, mask=first)
            code = tl.where(seen[None, :], _codes(x, low, inverse, LEVELS), 0)
            even, odd, high = _add_codes(code, even, odd, high, index, BITS)
        _store_bytes(codes, start, place, inside, column, even, odd, high, BITS, STEP, BYTES)


@triton.jit
def largest_magnitude(
    tokens,
    row_stride,
    token_stride,
    offsets,
    longest,
    found,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    RAGGED: tl.constexpr,
    PLACES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Raise ``found`` (int32 ``[rows]``, the bits of floats that are not negative) to the magnitudes of a tile."""
    row = tl.program_id(1)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    channel = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    _, length = _row_of(offsets, longest, row, RAGGED)
    if tl.program_id(0) * PLACES < length:
        base = tokens + row.to(tl.int64) * row_stride
        x = _coordinates(
            base, token_stride, place, place < length, channel, channel < WIDTH, WIDTH, BLOCK, DEPTH, PRECISION
        )
        # Floats that are not negative are ordered as their bits are.
        tl.atomic_max(found + row, tl.max(tl.max(tl.abs(x), axis=1), axis=0).to(tl.int32, bitcast=True))


@triton.jit
def quantize_to_float8(
    tokens,
    row_stride,
    token_stride,
    offsets,
    longest,
    scale,
    codes,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPTH: tl.constexpr,
    PRECISION: tl.constexpr,
    RAGGED: tl.constexpr,
    PLACES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Tokens over their row's scale as e4m3 bit patterns, rounded to even, saturating."""
    row = tl.program_id(1)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    channel = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    start, length = _row_of(offsets, longest, row, RAGGED)
    if tl.program_id(0) * PLACES < length:
        inside = place < length
        seen = channel < WIDTH
        base = tokens + row.to(tl.int64) * row_stride
        x = _coordinates(base, token_stride, place, inside, channel, seen, WIDTH, BLOCK, DEPTH, PRECISION)
        x = x * tl.div_rn(tl.full([1, 1], 1.0, tl.float32), tl.load(scale + row))
        bits = x.to(tl.int32, bitcast=True)
        size = tl.minimum(tl.abs(x), E4M3_MAX)
        size_bits = size.to(tl.int32, bitcast=True)
        # Three of 23 mantissa bits stay, and the exponent's bias falls from 127 to 7.
        normal = ((size_bits + 0x7FFFF + ((size_bits >> 20) & 1)) >> 20) - (120 << 3)
        subnormal = ((size * 512.0 + ROUNDER) - ROUNDER).to(tl.int32)
        code = tl.where(size < 0.015625, subnormal, normal) | ((bits >> 24) & 0x80)
        out = codes + (start + place)[:, None] * WIDTH + channel[None, :]
        tl.store(out, code.to(tl.uint8), mask=inside[:, None] & seen[None, :])
