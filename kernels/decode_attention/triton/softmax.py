"""What the splits have in common: queries in, an online softmax, outputs out.

Tokens are the rows of every product and query heads its columns, so that a few heads fill the tensor cores' operands.
``m``, ``l``, ``alpha`` and ``acc`` are those of FlashAttention (Dao et al., 2022): the running maximum of the scores
and sum of their exponentials, what a step scales earlier sums by, and the sum of the values.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-1.0e38)
"""Below any score, yet finite: what a maximum starts from."""


@triton.jit
def load_queries(query, program, WIDTH: tl.constexpr, CHANNEL: tl.constexpr, APART: tl.constexpr, WORDS: tl.constexpr):
    """``[WORDS padded, heads]``: the query's channels ``CHANNEL``, ``CHANNEL + APART`` and on, float32."""
    word = tl.arange(0, max(triton.next_power_of_2(WORDS), 16))
    channel = CHANNEL + APART * word
    mask = ((word < WORDS) & (channel < WIDTH))[:, None] & program.here[None, :]
    place = program.queries[None, :] * WIDTH + channel[:, None]
    return tl.load(query + place, mask=mask, other=0).to(tl.float32)


@triton.jit
def online_softmax(scores, visible, scaling, softcap, m, l, SOFTCAP: tl.constexpr):
    """One step: exponentials ``p`` of the scores, ``alpha``, and the new ``m`` and ``l``."""
    if SOFTCAP:
        scores = softcap * (1 - 2 / (1 + tl.exp2(scores * (scaling * 2 * LOG2_E / softcap)))) * LOG2_E
    else:
        scores = scores * (scaling * LOG2_E)
    scores = tl.where(visible[:, None], scores, -float("inf"))
    m_new = tl.maximum(m, tl.max(scores, 0))
    p = tl.exp2(scores - m_new[None, :])
    alpha = tl.exp2(m - m_new)
    return p, alpha, m_new, l * alpha + tl.sum(p, 0)


@triton.jit
def store_output(
    partial,
    program,
    acc,
    PARTIAL_WIDTH: tl.constexpr,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNEL: tl.constexpr,
    APART: tl.constexpr,
    WORDS: tl.constexpr,
):
    """Channels of a split's output, laid out as :func:`load_queries` reads them, from column ``FIRST`` on."""
    word = tl.arange(0, acc.shape[0])
    channel = CHANNEL + APART * word
    mask = ((word < WORDS) & (channel < WIDTH))[:, None] & program.here[None, :]
    place = (program.slot * PARTIAL_WIDTH + FIRST)[None, :] + channel[:, None]
    tl.store(partial.output + place, acc, mask=mask)


@triton.jit
def store_lse(partial, program, m, l):
    """Log-sum-exp of a split in units of log2, -inf if it saw no token, NaN if a score was NaN."""
    nothing = l == 0
    lse = tl.where(nothing, -float("inf"), m + tl.log2(tl.where(nothing, 1, l)))
    tl.store(partial.lse + program.slot, lse, mask=program.here)
