"""Codes out of their bytes, inside a Triton kernel.

A side's coordinates lie in planes: what the bytes of a token hold at the same bits (half-split packing). Plane ``p``
holds channels ``p * BYTES`` up to ``(p + 1) * BYTES``; 16 bits, fp8 and 8 bit have one plane, 4 bit two, 3 and 2 bit
four. Integers become float16 by way of their bits: ``0x6400 | n`` is ``1024 + n``.
"""

import triton
import triton.language as tl


@triton.jit
def bound(number, INTERPRETED: tl.constexpr):
    """A scalar as a bound of a loop; the interpreter's own conversion fails with NumPy 2.4."""
    if INTERPRETED:
        return number.handle.data.item()
    else:  # noqa: RET505 - what follows a return is compiled all the same
        return number


@triton.jit
def load_bytes(codes, tokens, inside, STRIDE: tl.constexpr, FIRST: tl.constexpr, BYTES: tl.constexpr):
    """``[tokens, BYTES padded]`` of ``codes``, which has ``STRIDE`` elements a token, from element ``FIRST`` on."""
    PADDED: tl.constexpr = max(triton.next_power_of_2(BYTES), 16)
    place = tl.arange(0, PADDED)
    mask = inside[:, None]
    if PADDED != BYTES:
        mask = mask & (place < BYTES)[None, :]
    return tl.load(codes + tokens[:, None] * STRIDE + FIRST + place[None, :], mask=mask, other=0)


@triton.jit
def load_high_bits(codes, tokens, inside, STRIDE: tl.constexpr, BYTES: tl.constexpr):
    """3 bit: the bytes of the high plane beside the low plane's, each twice."""
    PADDED: tl.constexpr = max(triton.next_power_of_2(BYTES), 16)
    place = tl.arange(0, PADDED)
    mask = inside[:, None] & (place < BYTES)[None, :]
    return tl.load(codes + tokens[:, None] * STRIDE + BYTES + (place % (BYTES // 2))[None, :], mask=mask, other=0)


@triton.jit
def load_factor(
    factor,
    tokens,
    inside,
    first_token,
    TOKENS: tl.constexpr,
    AXIS: tl.constexpr,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    PLANE: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Scales or minima of one plane, in a shape that broadcasts to ``[tokens, BYTES padded]``.

    ``factor``: where the row starts; ``tokens``: places within the row, the first of which is ``first_token``.
    """
    PADDED: tl.constexpr = max(triton.next_power_of_2(BYTES), 16)
    channel = PLANE * BYTES + tl.arange(0, PADDED)
    within = (tl.arange(0, PADDED) < BYTES) & (channel < WIDTH)
    GROUPS: tl.constexpr = WIDTH // GROUP
    FIRST: tl.constexpr = (PLANE * BYTES) // GROUP
    LAST: tl.constexpr = (min((PLANE + 1) * BYTES, WIDTH) - 1) // GROUP
    if AXIS == "channel" and GROUP % TOKENS == 0:
        loaded = tl.load(factor + (first_token // GROUP) * WIDTH + channel, mask=within, other=0)[None, :]
    elif AXIS == "token" and FIRST == LAST:
        loaded = tl.load(factor + tokens * GROUPS + FIRST, mask=inside, other=0)[:, None]
    else:
        if AXIS == "channel":
            place = (tokens // GROUP)[:, None] * WIDTH + channel[None, :]
        else:
            place = tokens[:, None] * GROUPS + (channel // GROUP)[None, :]
        loaded = tl.load(factor + place, mask=inside[:, None] & within[None, :], other=0)
    return loaded


@triton.jit
def plane_codes(stored, high, FORMAT: tl.constexpr, PLANE: tl.constexpr, BYTES: tl.constexpr):
    """The codes of one plane as float16; fp8 as 2**-8 of its value; 16 bits as they are."""
    bits = stored.to(tl.int16) if FORMAT != "plain" else stored
    if FORMAT == "plain":
        found = stored
    elif FORMAT == "fp8":
        # 3 of 10 mantissa bits and an exponent bias of 7 instead of 15: exact, subnormals included.
        found = (((bits & 0x7F) << 7) | ((bits & 0x80) << 8)).to(tl.float16, bitcast=True)
    else:
        if FORMAT == "int4":
            bits = (bits >> (4 * PLANE)) & 15
        elif FORMAT == "int2":
            bits = (bits >> (2 * PLANE)) & 3
        elif FORMAT == "int3":
            PADDED: tl.constexpr = max(triton.next_power_of_2(BYTES), 16)
            place = 2 * PLANE + (tl.arange(0, PADDED) >= BYTES // 2).to(tl.int16)
            bits = ((bits >> (2 * PLANE)) & 3) | (((high.to(tl.int16) >> place[None, :]) & 1) << 2)
        found = (bits | 0x6400).to(tl.float16, bitcast=True) - 1024.0
    return found


@triton.jit
def load_plane(
    stored,
    high,
    scale,
    minimum,
    factors,
    tokens,
    inside,
    first_token,
    TOKENS: tl.constexpr,
    FORMAT: tl.constexpr,
    AXIS: tl.constexpr,
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    PLANE: tl.constexpr,
    BYTES: tl.constexpr,
):
    """Coordinates of one plane ``[tokens, BYTES padded]``, without what is shared by a whole row.

    ``factors``: where the row's scales and minima start.
    """
    plane = plane_codes(stored, high, FORMAT, PLANE, BYTES)
    if AXIS == "channel" or AXIS == "token":
        by = load_factor(scale + factors, tokens, inside, first_token, TOKENS, AXIS, GROUP, WIDTH, PLANE, BYTES)
        low = load_factor(minimum + factors, tokens, inside, first_token, TOKENS, AXIS, GROUP, WIDTH, PLANE, BYTES)
        plane = plane * by + low
    return plane
