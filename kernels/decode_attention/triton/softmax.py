"""What the splits have in common: queries in, an online softmax, outputs out.

Tokens are the rows of every product and query heads its columns, so that a few heads fill the tensor cores' operands.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-1.0e38)
"""Below any score, yet finite: what a maximum starts from."""


@triton.jit
def query_plane(
    query,
    rows,
    here,
    WIDTH: tl.constexpr,
    CHANNEL: tl.constexpr,
    APART: tl.constexpr,
    WORDS: tl.constexpr,
):
    """``[WORDS padded, heads]``: the query's channels ``CHANNEL``, ``CHANNEL + APART`` and on, float32."""
    word = tl.arange(0, max(triton.next_power_of_2(WORDS), 16))
    channel = CHANNEL + APART * word
    mask = ((word < WORDS) & (channel < WIDTH))[:, None] & here[None, :]
    return tl.load(query + rows[None, :] * WIDTH + channel[:, None], mask=mask, other=0).to(tl.float32)


@triton.jit
def weigh(scores, visible, scaling, softcap, best, total, SOFTCAP: tl.constexpr):
    """One step of the online softmax: weights, what earlier sums shrink by, the new maximum and sum."""
    if SOFTCAP:
        scores = softcap * (1 - 2 / (1 + tl.exp2(scores * (scaling * 2 * LOG2_E / softcap)))) * LOG2_E
    else:
        scores = scores * (scaling * LOG2_E)
    scores = tl.where(visible[:, None], scores, -float("inf"))
    higher = tl.maximum(best, tl.max(scores, 0))
    weights = tl.exp2(scores - higher[None, :])
    shrink = tl.exp2(best - higher)
    return weights, shrink, higher, total * shrink + tl.sum(weights, 0)


@triton.jit
def store_plane(
    partial,
    slot,
    here,
    sums,
    WIDTH: tl.constexpr,
    CHANNEL: tl.constexpr,
    APART: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Channels of a split's output, laid out as :func:`query_plane` reads them; ``slot``: where each query's start."""
    word = tl.arange(0, sums.shape[0])
    channel = CHANNEL + APART * word
    mask = ((word < WORDS) & (channel < WIDTH))[:, None] & here[None, :]
    tl.store(partial + slot[None, :] + channel[:, None], sums, mask=mask)


@triton.jit
def store_lse(place, here, best, total):
    """Log-sum-exp of a split in units of log2, -inf if it saw no token, NaN if a score was NaN."""
    nothing = total == 0
    tl.store(place, tl.where(nothing, -float("inf"), best + tl.log2(tl.where(nothing, 1, total))), mask=here)
