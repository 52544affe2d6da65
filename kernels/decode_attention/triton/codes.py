"""Codes out of their words, inside a Triton kernel.

Codes are read as 16-bit words of two bytes, which is what tensor cores take their operands from and what shared memory
can transpose. A word holds ``EACH`` bytes (2, or 1 where a plane has too few), a byte ``SHIFTS`` codes (half-split
packing), so that one tile of words becomes ``SHIFTS * EACH`` planes: word ``i`` of plane ``(shift, byte)`` is channel
``shift * BYTES + EACH * i + byte``. Channels that share a scale are a range of the words; there are ``RANGES``.

Integers become float16 by way of their bits: ``0x6400 | n`` is ``1024 + n``. On a GPU this is done for two words at a
time in assembly, because the compiler does it one by one; what the assembly computes is spelled out beside it.
"""

import triton
import triton.language as tl


def _masked(mask: int, shift: int) -> tl.constexpr:
    """Two words, shifted right, masked, with the exponent of 1024."""
    word = f"shr.u32 w, $1, {shift};" if shift else "mov.b32 w, $1;"
    return tl.constexpr(f"{{ .reg .b32 w; {word} lop3.b32 $0, w, {mask * 0x10001:#010x}, 0x64006400, 0xea; }}")


INT8_0, INT8_1 = _masked(0xFF, 0), _masked(0xFF, 8)
INT4_00, INT4_01, INT4_10, INT4_11 = (_masked(0xF << bits, shift) for bits in (0, 4) for shift in (0, 8))
INT2_00, INT2_01, INT2_10, INT2_11, INT2_20, INT2_21, INT2_30, INT2_31 = (
    _masked(0x3 << bits, shift) for bits in (0, 2, 4, 6) for shift in (0, 8)
)


def _joined(bits: int, shift: int) -> tl.constexpr:
    """Two words, shifted right, of which two bits are kept, with the bit of other words that belongs above them."""
    words = f"shr.u32 w, $1, {shift}; shr.u32 h, $2, {shift - 2};" if shift else "mov.b32 w, $1; shl.b32 h, $2, 2;"
    low, high = (f"{mask << bits:#06x}" for mask in (3, 4))
    return tl.constexpr(
        f"{{ .reg .b32 w, h; {words} lop3.b32 w, w, {low}{low[2:]}, 0x64006400, 0xea;"
        f" lop3.b32 $0, h, {high}{high[2:]}, w, 0xea; }}"
    )


INT3_00, INT3_01, INT3_10, INT3_11, INT3_20, INT3_21, INT3_30, INT3_31 = (
    _joined(bits, shift) for bits in (0, 2, 4, 6) for shift in (0, 8)
)
FP8_0 = tl.constexpr(
    "{ .reg .b32 m, s; shl.b32 m, $1, 7; shl.b32 s, $1, 8; and.b32 s, s, 0x80008000;"
    " lop3.b32 $0, m, 0x3f803f80, s, 0xea; }"
)
FP8_1 = tl.constexpr(
    "{ .reg .b32 m, s; shr.u32 m, $1, 1; and.b32 s, $1, 0x80008000; lop3.b32 $0, m, 0x3f803f80, s, 0xea; }"
)
LOW_HALF = tl.constexpr("prmt.b32 $0, $1, $2, 0x5410;")
HIGH_HALF = tl.constexpr("prmt.b32 $0, $1, $2, 0x7632;")


@triton.jit
def bound(number, INTERPRETED: tl.constexpr):
    """A scalar as a bound of a loop; the interpreter's own conversion fails with NumPy 2.4."""
    if INTERPRETED:
        return number.handle.data.item()
    else:  # noqa: RET505 - what follows a return is compiled all the same
        return number


@triton.jit
def load_words(words, tile, FIRST: tl.constexpr, WORDS: tl.constexpr, STRIDE: tl.constexpr, ACROSS: tl.constexpr):
    """Words ``FIRST`` up to ``FIRST + WORDS``, padded, of a tile's tokens with ``STRIDE`` words each.

    ``[tokens, words]``, or ``[words, tokens]`` if ``ACROSS``; zero outside.
    """
    PADDED: tl.constexpr = max(triton.next_power_of_2(WORDS), 16)
    place = tl.expand_dims(tl.arange(0, PADDED), 1 if ACROSS else 0)
    token = tl.expand_dims(tile.tokens, 0 if ACROSS else 1)
    mask = tl.expand_dims(tile.inside, 0 if ACROSS else 1)
    if PADDED != WORDS:
        mask = mask & (place < WORDS)
    return tl.load(words + token * STRIDE + (FIRST + place), mask=mask, other=0)


@triton.jit
def half(words, HIGH: tl.constexpr, INTERPRETED: tl.constexpr):
    """The low or the high half of 32-bit words, as float16."""
    if INTERPRETED:
        found = (words >> (16 * HIGH)).to(tl.int16).to(tl.float16, bitcast=True)
    elif HIGH:
        found = tl.inline_asm_elementwise(HIGH_HALF, "=r,r,r", [words], dtype=tl.float16, is_pure=True, pack=2)
    else:
        found = tl.inline_asm_elementwise(LOW_HALF, "=r,r,r", [words], dtype=tl.float16, is_pure=True, pack=2)
    return found


@triton.jit
def load_scale(
    scale,
    tile,
    FORM: tl.constexpr,
    CHANNEL: tl.constexpr,
    BYTE: tl.constexpr,
    ACROSS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Scales or minima of the plane whose words hold channels ``CHANNEL + BYTE`` and on.

    ``scale``: where the row's start. The shape broadcasts to that of :func:`load_words`.
    """
    GROUP: tl.constexpr = FORM.group_size
    WIDTH: tl.constexpr = FORM.width
    WORDS: tl.constexpr = FORM.words
    PADDED: tl.constexpr = max(triton.next_power_of_2(WORDS), 16)
    GROUPS: tl.constexpr = WIDTH // GROUP
    END: tl.constexpr = CHANNEL + FORM.each * WORDS
    TOKENS: tl.constexpr = tile.tokens.shape[0]
    word = tl.arange(0, PADDED)
    channel = CHANNEL + FORM.each * word + BYTE
    # A mask that is not needed would cost the loads their width.
    WITHIN: tl.constexpr = PADDED == WORDS and END <= WIDTH
    within = (word < WORDS) & (channel < WIDTH)
    if FORM.axis == "channel" and GROUP // TOKENS * TOKENS == GROUP:
        scale += (tile.first // GROUP) * WIDTH + CHANNEL
        if FORM.each == 2:
            # Both bytes' scales in one word, which an asynchronous copy can carry.
            pairs = scale.to(tl.pointer_type(tl.int32), bitcast=True) + word
            found = tl.load(pairs) if WITHIN else tl.load(pairs, mask=within, other=0)
            found = half(found, BYTE, INTERPRETED)
        else:
            found = tl.load(scale + word) if WITHIN else tl.load(scale + word, mask=within, other=0)
        found = tl.expand_dims(found, 1 if ACROSS else 0)
    elif FORM.axis == "token" and (min(END, WIDTH) - 1) // GROUP == CHANNEL // GROUP:
        if GROUPS % 2 == 0:
            pairs = scale.to(tl.pointer_type(tl.int32), bitcast=True) + CHANNEL // GROUP // 2
            found = tl.load(pairs + tile.tokens * (GROUPS // 2), mask=tile.inside, other=0)
            found = half(found, CHANNEL // GROUP % 2, INTERPRETED)
        else:
            found = tl.load(scale + tile.tokens * GROUPS + CHANNEL // GROUP, mask=tile.inside, other=0)
        found = tl.expand_dims(found, 0 if ACROSS else 1)
    else:
        token = tl.expand_dims(tile.tokens, 0 if ACROSS else 1)
        column = tl.expand_dims(channel, 1 if ACROSS else 0)
        mask = tl.expand_dims(tile.inside, 0 if ACROSS else 1) & tl.expand_dims(within, 1 if ACROSS else 0)
        place = token // GROUP * WIDTH + column if FORM.axis == "channel" else token * GROUPS + column // GROUP
        found = tl.load(scale + place, mask=mask, other=0)
    return found


@triton.jit
def packed_halves(words, ASSEMBLY: tl.constexpr):
    """Two words through ``ASSEMBLY``, to two float16."""
    return tl.inline_asm_elementwise(ASSEMBLY, "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2)


@triton.jit
def joined_halves(words, high, ASSEMBLY: tl.constexpr):
    """Two words and two of their high bits through ``ASSEMBLY``, to two float16."""
    return tl.inline_asm_elementwise(ASSEMBLY, "=r,r,r", [words, high], dtype=tl.float16, is_pure=True, pack=2)


@triton.jit
def biased(words, BITS: tl.constexpr, SHIFT: tl.constexpr, BYTE: tl.constexpr, INTERPRETED: tl.constexpr):
    """1024 + code * 2 ** (BITS * SHIFT), as float16."""
    if INTERPRETED:
        mask = ((1 << BITS) - 1) << (BITS * SHIFT)
        found = (((words >> (8 * BYTE)) & mask) | 0x6400).to(tl.int16).to(tl.float16, bitcast=True)
    elif BITS == 8:
        found = packed_halves(words, INT8_1 if BYTE else INT8_0)
    elif BITS == 4 and SHIFT == 0:
        found = packed_halves(words, INT4_01 if BYTE else INT4_00)
    elif BITS == 4:
        found = packed_halves(words, INT4_11 if BYTE else INT4_10)
    elif SHIFT == 0:
        found = packed_halves(words, INT2_01 if BYTE else INT2_00)
    elif SHIFT == 1:
        found = packed_halves(words, INT2_11 if BYTE else INT2_10)
    elif SHIFT == 2:
        found = packed_halves(words, INT2_21 if BYTE else INT2_20)
    else:
        found = packed_halves(words, INT2_31 if BYTE else INT2_30)
    return found


@triton.jit
def biased3(words, high, SHIFT: tl.constexpr, BYTE: tl.constexpr, INTERPRETED: tl.constexpr):
    """1024 + code * 4 ** SHIFT, as float16, for codes of 3 bits."""
    if INTERPRETED:
        low = (words >> (8 * BYTE)) & (3 << (2 * SHIFT))
        above = ((high >> (8 * BYTE)) & (1 << (2 * SHIFT))) << 2
        found = (low | above | 0x6400).to(tl.int16).to(tl.float16, bitcast=True)
    elif SHIFT == 0:
        found = joined_halves(words, high, INT3_01 if BYTE else INT3_00)
    elif SHIFT == 1:
        found = joined_halves(words, high, INT3_11 if BYTE else INT3_10)
    elif SHIFT == 2:
        found = joined_halves(words, high, INT3_21 if BYTE else INT3_20)
    else:
        found = joined_halves(words, high, INT3_31 if BYTE else INT3_30)
    return found


@triton.jit
def plane_codes(
    words,
    high,
    FORM: tl.constexpr,
    SHIFT: tl.constexpr,
    BYTE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """The codes of one plane as float16; fp8 as 2**-8 of its value; 16 bits as they are.

    ``high``: for 3 bit, what :func:`load_high_words` gives.
    """
    if FORM.name == "plain":
        found = words
    elif FORM.name == "fp8":
        # 3 of 10 mantissa bits and an exponent bias of 7 instead of 15: exact, subnormals included.
        if INTERPRETED:
            bits = words >> (8 * BYTE)
            found = (((bits & 0x7F) << 7) | ((bits & 0x80) << 8)).to(tl.int16).to(tl.float16, bitcast=True)
        else:
            found = packed_halves(words, FP8_1 if BYTE else FP8_0)
    else:
        BITS: tl.constexpr = 8 if FORM.name == "int8" else 4 if FORM.name == "int4" else 2
        if FORM.name == "int3":
            found = biased3(words, high, SHIFT, BYTE, INTERPRETED)
        else:
            found = biased(words, BITS, SHIFT, BYTE, INTERPRETED)
        if SHIFT == 0:
            found -= 1024.0
        else:
            found = found * (1.0 / (1 << (BITS * SHIFT))) - 1024.0 / (1 << (BITS * SHIFT))
    return found


@triton.jit
def load_plane(
    words,
    high,
    row,
    tile,
    FORM: tl.constexpr,
    RANGE: tl.constexpr,
    SHIFT: tl.constexpr,
    BYTE: tl.constexpr,
    ACROSS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Coordinates of one plane, shaped as ``words``, without what is shared by a whole row."""
    plane = plane_codes(words, high, FORM, SHIFT, BYTE, INTERPRETED)
    if FORM.axis == "channel" or FORM.axis == "token":
        CHANNEL: tl.constexpr = SHIFT * FORM.bytes + RANGE * (FORM.bytes // FORM.ranges)
        scale = load_scale(row.scale, tile, FORM, CHANNEL, BYTE, ACROSS, INTERPRETED)
        minimum = load_scale(row.minimum, tile, FORM, CHANNEL, BYTE, ACROSS, INTERPRETED)
        plane = plane * scale + minimum
    return plane


@triton.jit
def load_range(row, tile, RANGE: tl.constexpr, FORM: tl.constexpr, ACROSS: tl.constexpr):
    """Words of one range, and for 3 bit those with their high bits; :func:`load_words` has the shape."""
    words = load_words(row.words, tile, RANGE * FORM.words, FORM.words, FORM.stride, ACROSS)
    words = words.to(tl.int16) if FORM.name != "plain" else words
    high = words
    if FORM.name == "int3":
        high = load_high_words(row.words, tile, FORM.words, FORM.stride, ACROSS)
    return words, high


@triton.jit
def load_high_words(words, tile, WORDS: tl.constexpr, STRIDE: tl.constexpr, ACROSS: tl.constexpr):
    """3 bit: beside every word of low bits the one with its high bits, the one of shift ``s`` at bit ``2 s``."""
    PADDED: tl.constexpr = max(triton.next_power_of_2(WORDS), 16)
    place = tl.expand_dims(tl.arange(0, PADDED), 1 if ACROSS else 0)
    token = tl.expand_dims(tile.tokens, 0 if ACROSS else 1)
    mask = tl.expand_dims(tile.inside, 0 if ACROSS else 1) & (place < WORDS)
    high = tl.load(words + token * STRIDE + (WORDS + place % (WORDS // 2)), mask=mask, other=0).to(tl.int16)
    # The high plane has half the words: those of the second half of the low plane are the odd bits.
    return tl.where(place < WORDS // 2, high, high >> 1)
