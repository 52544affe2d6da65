"""What the splits have in common: queries in, an online softmax, outputs out."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-1.0e38)
"""Below any score, yet finite: what a maximum starts from."""


@triton.jit
def query_plane(query, rows, here, WIDTH: tl.constexpr, PLANE: tl.constexpr, BYTES: tl.constexpr):
    """``[rows, BYTES padded]``: the query's channels of one plane, float32."""
    PADDED: tl.constexpr = max(triton.next_power_of_2(BYTES), 16)
    channel = PLANE * BYTES + tl.arange(0, PADDED)
    mask = here[:, None] & ((tl.arange(0, PADDED) < BYTES) & (channel < WIDTH))[None, :]
    return tl.load(query + rows[:, None] * WIDTH + channel[None, :], mask=mask, other=0).to(tl.float32)


@triton.jit
def weigh(scores, visible, scaling, softcap, best, total, SOFTCAP: tl.constexpr):
    """One step of the online softmax: weights, what earlier sums shrink by, the new maximum and sum."""
    if SOFTCAP:
        scores = softcap * (1 - 2 / (1 + tl.exp2(scores * (scaling * 2 * LOG2_E / softcap)))) * LOG2_E
    else:
        scores = scores * (scaling * LOG2_E)
    scores = tl.where(visible[None, :], scores, -float("inf"))
    higher = tl.maximum(best, tl.max(scores, 1))
    weights = tl.exp2(scores - higher[:, None])
    shrink = tl.exp2(best - higher)
    return weights, shrink, higher, total * shrink + tl.sum(weights, 1)


@triton.jit
def store_plane(partial, slot, here, sums, WIDTH: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """Channels ``FIRST`` up to ``FIRST + COUNT`` of a split's output; ``slot``: where it starts for each query."""
    place = tl.arange(0, sums.shape[1])
    mask = here[:, None] & ((place < COUNT) & (FIRST + place < WIDTH))[None, :]
    tl.store(partial + slot[:, None] + FIRST + place[None, :], sums, mask=mask)


@triton.jit
def store_lse(place, here, best, total):
    """Log-sum-exp of a split in units of log2, -inf if it saw no token."""
    tl.store(place, tl.where(total > 0, best + tl.log2(tl.maximum(total, 1e-30)), -float("inf")), mask=here)
