"""The most frequent of coded words with Zipf counts (RULER, Hsieh et al., 2024, ``fwe``)."""

from __future__ import annotations

from bisect import bisect_right
from itertools import count, takewhile, zip_longest
from math import pi
from random import Random
from string import ascii_lowercase

from autokv.evaluation.tasks.task import Draft, Task, Variant

LETTERS = 6
MASK = "..."
"""Stands for the word of rank 1, which is too easy to see."""
ZETA_2 = pi**2 / 6
FEWEST = 46
"""From this many words on, rank 4 occurs more often than rank 5."""


def zipf_counts(words: int) -> list[int]:
    """How often each rank occurs among ``words`` words, when frequency falls with the square of the rank.

    The counts are between the rounded-down shares of two consecutive scales, so that every number of words is met.
    """
    scale = bisect_right(range(2 * words + 4), words, key=lambda scale: sum(_shares(scale)))
    counts, missing = _shares(scale), sum(_shares(scale)) - words
    for rank, (now, before) in reversed(list(enumerate(zip_longest(counts, _shares(scale - 1), fillvalue=0)))):
        if missing and now > before:
            counts[rank] -= 1
            missing -= 1
    return [times for times in counts if times]


def _shares(scale: int) -> list[int]:
    """``scale`` words over the ranks, each rounded down, without the ranks that get none."""
    shares = (int(scale / (ZETA_2 * rank * rank)) for rank in count(1))
    return list(takewhile(bool, shares))


def draft(rng: Random, size: int) -> Draft:
    """``size`` is the number of words."""
    order = Random(rng.random())
    counts = zipf_counts(size)
    words: dict[str, None] = {MASK: None}
    while len(words) < len(counts):
        words["".join(rng.choices(ascii_lowercase, k=LETTERS))] = None
    entries = [word for word, times in zip(words, counts, strict=True) for _ in range(times)]
    order.shuffle(entries)
    return Draft(
        request=(
            f"The following text is made of coded words. Count them, but ignore the dots ({MASK}).\n\n"
            f"{' '.join(entries)}\n\n"
            "What are the three most frequent coded words in the text above?"
        ),
        answer_prefix="The three most frequent coded words are:",
        references=tuple(list(words)[1:4]),
    )


FREQUENT_WORDS = Task("frequent_words", (Variant(draft, FEWEST),))
