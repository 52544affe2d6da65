"""Into the basis of the compressed keys, and the splits' outputs together and out of the basis of the values."""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound

LN_2 = tl.constexpr(0.6931471805599453)
FLOOR = tl.constexpr(-1.0e38)


@triton.jit
def hadamard(rows, columns, WIDTH: tl.constexpr):
    """Entries ``[rows, columns]`` of the blockwise Hadamard matrix of :mod:`autokv.kernels.hadamard`."""
    BLOCK: tl.constexpr = WIDTH & -WIDTH
    both = (rows % BLOCK)[:, None] & (columns % BLOCK)[None, :]
    both ^= both >> 8
    both ^= both >> 4
    both ^= both >> 2
    both ^= both >> 1
    same = (rows // BLOCK)[:, None] == (columns // BLOCK)[None, :]
    sign = (1 - 2 * (both & 1)).to(tl.float32) * (1.0 / tl.sqrt(tl.full([1], BLOCK, tl.float32)))[None, :]
    return tl.where(same, sign, 0.0)


_STRIDES = ["basis_row", "basis_channel", "basis_column", "right_row", "right_column", "right_factor"]


@triton.jit(do_not_specialize=_STRIDES)
def query_kernel(
    query,
    basis,
    right,
    coordinates,
    left,
    basis_row,
    basis_channel,
    basis_column,
    right_row,
    right_column,
    right_factor,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    ROTATED: tl.constexpr,
    LATENT: tl.constexpr,
    STEP: tl.constexpr,
):
    """One query ``[HEAD_DIM]`` to its coordinates ``[WIDTH]`` and those times ``right`` ``[RANK]``, all float32."""
    one = tl.program_id(0).to(tl.int64)
    row = one // GROUP
    PADDED: tl.constexpr = triton.next_power_of_2(WIDTH)
    column = tl.arange(0, PADDED)
    if ROTATED or LATENT:
        found = tl.zeros([PADDED], tl.float32)
        for begin in range(0, HEAD_DIM, STEP):
            channel = begin + tl.arange(0, STEP)
            part = tl.load(query + one * HEAD_DIM + channel, mask=channel < HEAD_DIM, other=0).to(tl.float32)
            if LATENT:
                inside = (channel < HEAD_DIM)[:, None] & (column < WIDTH)[None, :]
                place = row * basis_row + channel[:, None] * basis_channel + column[None, :] * basis_column
                matrix = tl.load(basis + place, mask=inside, other=0).to(tl.float32)
            else:
                matrix = hadamard(channel, column, WIDTH)
            found += tl.sum(part[:, None] * matrix, 0)
        tl.store(coordinates + one * WIDTH + column, found, mask=column < WIDTH)
    else:
        found = tl.load(query + one * HEAD_DIM + column, mask=column < WIDTH, other=0).to(tl.float32)
    if RANK:
        RANKS: tl.constexpr = triton.next_power_of_2(RANK)
        factor = tl.arange(0, RANKS)
        inside = (column < WIDTH)[:, None] & (factor < RANK)[None, :]
        place = row * right_row + column[:, None] * right_column + factor[None, :] * right_factor
        matrix = tl.load(right + place, mask=inside, other=0).to(tl.float32)
        found = tl.sum(found[:, None] * matrix, 0)
        tl.store(left + one * RANK + factor, found, mask=factor < RANK)


@triton.jit
def highest_lse(partial_lse, start, first, last, SLOTS: tl.constexpr, INTERPRETED: tl.constexpr):
    """The largest log-sum-exp of the slots ``first`` up to ``last``."""
    highest = tl.full([SLOTS], -float("inf"), tl.float32)
    for begin in range(bound(first, INTERPRETED), bound(last, INTERPRETED), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        lse = tl.load(partial_lse + start + slot, mask=slot < last, other=-float("inf"))
        highest = tl.maximum(highest, lse)
    return tl.max(highest, 0)


@triton.jit
def sum_of_weights(partial_lse, start, first, last, highest, SLOTS: tl.constexpr, INTERPRETED: tl.constexpr):
    """The slots' sums of exponentials, relative to ``highest``."""
    total = tl.zeros([SLOTS], tl.float32)
    for begin in range(bound(first, INTERPRETED), bound(last, INTERPRETED), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        lse = tl.load(partial_lse + start + slot, mask=slot < last, other=-float("inf"))
        total += tl.exp2(lse - highest)
    return tl.sum(total, 0)


@triton.jit
def weighted_sum(
    partial,
    partial_lse,
    start,
    first,
    last,
    highest,
    SLOTS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
):
    """Outputs of the slots ``first`` up to ``last``, times 2 to the power of their log-sum-exp less ``highest``."""
    PADDED: tl.constexpr = triton.next_power_of_2(WIDTH)
    column = tl.arange(0, PADDED)
    total = tl.zeros([PADDED], tl.float32)
    for begin in range(bound(first, INTERPRETED), bound(last, INTERPRETED), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        inside = slot < last
        lse = tl.load(partial_lse + start + slot, mask=inside, other=-float("inf"))
        place = (start + slot)[:, None] * STRIDE + FIRST + column[None, :]
        # A split without tokens has written no output.
        written = lse > -float("inf")
        output = tl.load(partial + place, mask=written[:, None] & (column < WIDTH)[None, :], other=0)
        total += tl.sum(output * tl.exp2(lse - highest)[:, None], 0)
    return total


@triton.jit(do_not_specialize=["slots", "first", "last", "plain_first", *_STRIDES])
def combine_kernel(
    partial,
    partial_lse,
    earlier,
    earlier_lse,
    basis,
    right,
    output,
    output_lse,
    slots,
    first,
    last,
    plain_first,
    basis_row,
    basis_channel,
    basis_column,
    right_row,
    right_column,
    right_factor,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PARTIAL_WIDTH: tl.constexpr,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    ROTATED: tl.constexpr,
    LATENT: tl.constexpr,
    PLAIN: tl.constexpr,
    EARLIER: tl.constexpr,
    SLOTS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    STEP: tl.constexpr,
):
    """Merge one query's splits.

    Of its ``slots``, ``first`` up to ``last`` hold older tokens in a basis of their own, which the sum leaves here;
    those from ``plain_first`` on, merged if ``PLAIN``, are outputs ``[HEAD_DIM]``; so is ``earlier``, with a natural
    log-sum-exp.
    """
    one = tl.program_id(0).to(tl.int64)
    row = one // GROUP
    start = one * slots
    PADDED: tl.constexpr = triton.next_power_of_2(HEAD_DIM)
    channel = tl.arange(0, PADDED)

    highest = highest_lse(partial_lse, start, first, last, SLOTS, INTERPRETED)
    if PLAIN:
        highest = tl.maximum(highest, highest_lse(partial_lse, start, plain_first, slots, SLOTS, INTERPRETED))
    if EARLIER:
        before = tl.load(earlier_lse + one) / LN_2
        highest = tl.maximum(highest, before)
    highest = tl.maximum(highest, FLOOR)
    total = sum_of_weights(partial_lse, start, first, last, highest, SLOTS, INTERPRETED)
    sums = tl.zeros([PADDED], tl.float32)
    if PLAIN:
        total += sum_of_weights(partial_lse, start, plain_first, slots, highest, SLOTS, INTERPRETED)
        sums += weighted_sum(
            partial, partial_lse, start, plain_first, slots, highest, SLOTS, INTERPRETED, 0, HEAD_DIM, PARTIAL_WIDTH
        )
    if EARLIER:
        weight = tl.exp2(before - highest)
        total += weight
        sums += weight * tl.load(earlier + one * HEAD_DIM + channel, mask=channel < HEAD_DIM, other=0)
    if ROTATED or LATENT or RANK:
        COLUMNS: tl.constexpr = triton.next_power_of_2(WIDTH)
        column = tl.arange(0, COLUMNS)
        found = weighted_sum(
            partial, partial_lse, start, first, last, highest, SLOTS, INTERPRETED, 0, WIDTH, PARTIAL_WIDTH
        )
        if RANK:
            RANKS: tl.constexpr = triton.next_power_of_2(RANK)
            factor = tl.arange(0, RANKS)
            by = weighted_sum(
                partial, partial_lse, start, first, last, highest, SLOTS, INTERPRETED, WIDTH, RANK, PARTIAL_WIDTH
            )
            inside = (column < WIDTH)[:, None] & (factor < RANK)[None, :]
            place = row * right_row + column[:, None] * right_column + factor[None, :] * right_factor
            found += tl.sum(tl.load(right + place, mask=inside, other=0).to(tl.float32) * by[None, :], 1)
        if ROTATED or LATENT:
            # A product takes its left side in steps: by way of memory that only this program reads, and no more.
            scratch = partial + (start + first) * PARTIAL_WIDTH
            tl.debug_barrier()
            tl.store(scratch + column, found, mask=column < WIDTH)
            tl.debug_barrier()
            for begin in range(0, WIDTH, STEP):
                coordinate = begin + tl.arange(0, STEP)
                part = tl.load(scratch + coordinate, mask=coordinate < WIDTH, other=0)
                if LATENT:
                    inside = (channel < HEAD_DIM)[None, :] & (coordinate < WIDTH)[:, None]
                    place = row * basis_row + channel[None, :] * basis_channel + coordinate[:, None] * basis_column
                    matrix = tl.load(basis + place, mask=inside, other=0).to(tl.float32)
                else:
                    matrix = hadamard(coordinate, channel, WIDTH)
                sums += tl.sum(part[:, None] * matrix, 0)
        else:
            sums += found
    nothing = total == 0
    total = tl.where(nothing, 1, total)
    sums /= total
    tl.store(output + one * HEAD_DIM + channel, sums.to(output.dtype.element_ty), mask=channel < HEAD_DIM)
    lse = tl.where(nothing, -float("inf"), (highest + tl.log2(total)) * LN_2)
    tl.store(output_lse + one, lse)
