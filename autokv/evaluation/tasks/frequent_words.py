"""The most frequent of coded words with Zipf counts (RULER, Hsieh et al., 2024, ``fwe``)."""

from __future__ import annotations

from itertools import count, takewhile
from math import pi
from random import Random
from string import ascii_lowercase

from autokv.evaluation.tasks.task import Draft, Task, Variant

LETTERS = 6
MASK = "..."
"""Stands for the word of rank 1, which is too easy to see."""
ZETA_2 = pi**2 / 6
FEWEST = 53
"""From this size on, rank 4 occurs more often than rank 5."""


def zipf_counts(size: int) -> list[int]:
    """How often each rank occurs among ``size`` words whose frequency falls with the square of the rank."""
    counts = (int(size / (ZETA_2 * rank * rank)) for rank in count(1))
    return list(takewhile(bool, counts))


def draft(rng: Random, size: int) -> Draft:
    """``size`` words before each rank's count is rounded down."""
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
