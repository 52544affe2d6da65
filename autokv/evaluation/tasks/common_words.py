"""The most common words of a numbered list (RULER, Hsieh et al., 2024, ``cwe``)."""

from __future__ import annotations

from functools import partial
from itertools import islice
from random import Random

from autokv.evaluation.tasks.haystack import distinct_words
from autokv.evaluation.tasks.task import Draft, Task, Variant

LEAST_OTHERS = 10


def draft(rng: Random, size: int, *, words: int, common: int, other: int) -> Draft:
    """``words`` words occur ``common`` times each, ``size`` others ``other`` times each, in random order."""
    order = Random(rng.random())
    drawn = list(islice(distinct_words(rng), words + size))
    entries = drawn[:words] * common + drawn[words:] * other
    order.shuffle(entries)
    numbered = " ".join(f"{number}. {word}" for number, word in enumerate(entries, start=1))
    return Draft(
        request=(
            "Some words of the following numbered list occur more often than others. Remember which.\n\n"
            f"{numbered}\n\n"
            f"What are the {words} most common words in the list above?"
        ),
        answer_prefix=f"The {words} most common words in the list are:",
        references=tuple(drawn[:words]),
    )


COMMON_WORDS = Task(
    "common_words",
    tuple(
        Variant(partial(draft, words=words, common=common, other=other), LEAST_OTHERS)
        for words, common, other in ((10, 30, 3), (10, 6, 1), (5, 4, 1))
    ),
)
"""RULER's counts for long and for short contexts, and a smaller one for contexts of a few hundred tokens."""
