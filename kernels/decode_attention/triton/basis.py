"""Into the basis of the compressed keys, and the splits' outputs together and out of the basis of the values."""

import triton
import triton.language as tl

from autokv.kernels.decode_attention.triton.codes import bound
from autokv.kernels.decode_attention.triton.softmax import FLOOR
from autokv.kernels.decode_attention.triton.structures import Matrix

LN_2 = tl.constexpr(0.6931471805599453)


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


@triton.jit
def load_matrix(matrix, row, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Entries ``[rows, columns]`` of one row's ``[ROWS, COLUMNS]`` matrix, float32, zero outside."""
    inside = (rows < ROWS)[:, None] & (columns < COLUMNS)[None, :]
    place = row * matrix.row_stride + rows[:, None] * matrix.stride + columns[None, :] * matrix.column_stride
    return tl.load(matrix.entries + place, mask=inside, other=0).to(tl.float32)


@triton.jit
def query_kernel(query, basis, right, GROUP: tl.constexpr, SPACE: tl.constexpr, STEP: tl.constexpr):
    """One query ``[head_dim]`` to its coordinates ``[width]``, and those times ``right`` ``[rank]``, all float32."""
    HEAD_DIM: tl.constexpr = SPACE.head_dim
    WIDTH: tl.constexpr = SPACE.width
    RANK: tl.constexpr = SPACE.rank
    one = tl.program_id(0).to(tl.int64)
    row = one // GROUP
    PADDED: tl.constexpr = triton.next_power_of_2(WIDTH)
    column = tl.arange(0, PADDED)
    if SPACE.rotated or SPACE.latent:
        found = tl.zeros([PADDED], tl.float32)
        for begin in range(0, HEAD_DIM, STEP):
            channel = begin + tl.arange(0, STEP)
            part = tl.load(query.states + one * HEAD_DIM + channel, mask=channel < HEAD_DIM, other=0).to(tl.float32)
            if SPACE.latent:
                matrix = load_matrix(basis, row, channel, column, HEAD_DIM, WIDTH)
            else:
                matrix = hadamard(channel, column, WIDTH)
            found += tl.sum(part[:, None] * matrix, 0)
        tl.store(query.coordinates + one * WIDTH + column, found, mask=column < WIDTH)
    else:
        found = tl.load(query.states + one * HEAD_DIM + column, mask=column < WIDTH, other=0).to(tl.float32)
    if RANK:
        ranks = tl.arange(0, triton.next_power_of_2(RANK))
        found = tl.sum(found[:, None] * load_matrix(right, row, column, ranks, WIDTH, RANK), 0)
        tl.store(query.low_rank + one * RANK + ranks, found, mask=ranks < RANK)


@triton.jit
def highest_lse(partial, start, first, last, SLOTS: tl.constexpr, INTERPRETED: tl.constexpr):
    """The largest log-sum-exp of the slots ``first`` up to ``last``."""
    highest = tl.full([SLOTS], -float("inf"), tl.float32)
    for begin in range(bound(first, INTERPRETED), bound(last, INTERPRETED), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        lse = tl.load(partial.lse + start + slot, mask=slot < last, other=-float("inf"))
        highest = tl.maximum(highest, lse)
    return tl.max(highest, 0)


@triton.jit
def sum_of_weights(partial, start, first, last, m, SLOTS: tl.constexpr, INTERPRETED: tl.constexpr):
    """The slots' sums of exponentials, relative to ``m``."""
    total = tl.zeros([SLOTS], tl.float32)
    for begin in range(bound(first, INTERPRETED), bound(last, INTERPRETED), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        lse = tl.load(partial.lse + start + slot, mask=slot < last, other=-float("inf"))
        total += tl.exp2(lse - m)
    return tl.sum(total, 0)


@triton.jit
def weighted_sum(
    partial,
    start,
    first,
    last,
    m,
    SLOTS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
):
    """Outputs of the slots ``first`` up to ``last``, times 2 to the power of their log-sum-exp less ``m``."""
    PADDED: tl.constexpr = triton.next_power_of_2(WIDTH)
    column = tl.arange(0, PADDED)
    total = tl.zeros([PADDED], tl.float32)
    for begin in range(bound(first, INTERPRETED), bound(last, INTERPRETED), SLOTS):
        slot = begin + tl.arange(0, SLOTS)
        inside = slot < last
        lse = tl.load(partial.lse + start + slot, mask=inside, other=-float("inf"))
        place = (start + slot)[:, None] * STRIDE + FIRST + column[None, :]
        # A split without tokens has written no output.
        written = lse > -float("inf")
        output = tl.load(partial.output + place, mask=written[:, None] & (column < WIDTH)[None, :], other=0)
        total += tl.sum(output * tl.exp2(lse - m)[:, None], 0)
    return total


@triton.jit(do_not_specialize=["slots", "first", "last", "plain_first"])
def combine_kernel(
    partial,
    earlier,
    merged,
    basis,
    right,
    slots,
    first,
    last,
    plain_first,
    GROUP: tl.constexpr,
    PARTIAL_WIDTH: tl.constexpr,
    SPACE: tl.constexpr,
    PLAIN: tl.constexpr,
    SLOTS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    STEP: tl.constexpr,
):
    """Merge one query's splits; the words are those of :mod:`.softmax`.

    Of its ``slots``, ``first`` up to ``last`` hold older tokens in a basis of their own, which the sum leaves here;
    those from ``plain_first`` on, merged if ``PLAIN``, are outputs ``[head_dim]``; so is ``earlier``, with a natural
    log-sum-exp.
    """
    HEAD_DIM: tl.constexpr = SPACE.head_dim
    WIDTH: tl.constexpr = SPACE.width
    RANK: tl.constexpr = SPACE.rank
    one = tl.program_id(0).to(tl.int64)
    row = one // GROUP
    start = one * slots
    PADDED: tl.constexpr = triton.next_power_of_2(HEAD_DIM)
    channel = tl.arange(0, PADDED)

    m = highest_lse(partial, start, first, last, SLOTS, INTERPRETED)
    if PLAIN:
        m = tl.maximum(m, highest_lse(partial, start, plain_first, slots, SLOTS, INTERPRETED))
    if earlier is not None:
        before = tl.load(earlier.lse + one) / LN_2
        m = tl.maximum(m, before)
    m = tl.maximum(m, FLOOR)
    l = sum_of_weights(partial, start, first, last, m, SLOTS, INTERPRETED)
    acc = tl.zeros([PADDED], tl.float32)
    if PLAIN:
        l += sum_of_weights(partial, start, plain_first, slots, m, SLOTS, INTERPRETED)
        acc += weighted_sum(partial, start, plain_first, slots, m, SLOTS, INTERPRETED, 0, HEAD_DIM, PARTIAL_WIDTH)
    if earlier is not None:
        weight = tl.exp2(before - m)
        l += weight
        acc += weight * tl.load(earlier.output + one * HEAD_DIM + channel, mask=channel < HEAD_DIM, other=0)
    if WIDTH:
        column = tl.arange(0, triton.next_power_of_2(WIDTH))
        found = weighted_sum(partial, start, first, last, m, SLOTS, INTERPRETED, 0, WIDTH, PARTIAL_WIDTH)
        if RANK:
            ranks = tl.arange(0, triton.next_power_of_2(RANK))
            left = weighted_sum(partial, start, first, last, m, SLOTS, INTERPRETED, WIDTH, RANK, PARTIAL_WIDTH)
            found += tl.sum(load_matrix(right, row, column, ranks, WIDTH, RANK) * left[None, :], 1)
        if SPACE.rotated or SPACE.latent:
            # A product takes its left side in steps: by way of memory that only this program reads, and no more.
            scratch = partial.output + (start + first) * PARTIAL_WIDTH
            tl.debug_barrier()
            tl.store(scratch + column, found, mask=column < WIDTH)
            tl.debug_barrier()
            for begin in range(0, WIDTH, STEP):
                coordinate = begin + tl.arange(0, STEP)
                part = tl.load(scratch + coordinate, mask=coordinate < WIDTH, other=0)
                if SPACE.latent:
                    transposed = Matrix(basis.entries, basis.row_stride, basis.column_stride, basis.stride)
                    matrix = load_matrix(transposed, row, coordinate, channel, WIDTH, HEAD_DIM)
                else:
                    matrix = hadamard(coordinate, channel, WIDTH)
                acc += tl.sum(part[:, None] * matrix, 0)
        else:
            acc += found
    nothing = l == 0
    l = tl.where(nothing, 1, l)
    acc /= l
    tl.store(merged.output + one * HEAD_DIM + channel, acc.to(merged.output.dtype.element_ty), mask=channel < HEAD_DIM)
    lse = tl.where(nothing, -float("inf"), (m + tl.log2(l)) * LN_2)
    tl.store(merged.lse + one, lse)
