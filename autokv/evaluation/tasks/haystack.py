"""What needles are hidden in: filler sentences, words, and places."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from random import Random

from autokv.data import builtin_text

FILLER = (
    "The river is wide.",
    "The hill is steep.",
    "The sky is grey.",
    "We walk on.",
    "Then we turn back.",
)
SHORTEST, LONGEST, MOST_FREQUENT = 5, 9, 20
"""Letters of a word, and how often it may occur in the built-in text: a frequent one would say too little."""


def filler(sentences: int) -> list[str]:
    """Short sentences that say nothing, repeated in order."""
    return [FILLER[index % len(FILLER)] for index in range(sentences)]


def scatter(rng: Random, needles: list[str], haystack: list[str]) -> list[str]:
    """The haystack with the needles at random depths, in their order.

    Depths are fractions of the haystack, so that they stay where they are when it grows.
    """
    depths = sorted(rng.random() for _ in needles)
    mixed = list(haystack)
    for depth, needle in reversed(list(zip(depths, needles, strict=True))):
        mixed.insert(int(depth * (len(haystack) + 1)), needle)
    return mixed


@cache
def vocabulary() -> tuple[str, ...]:
    """English words, sorted, none of which contains another: so that one is never counted for another."""
    counts = Counter(re.findall(r"\b[a-z]+\b", builtin_text().read_text(encoding="utf-8")))
    words = {word for word, count in counts.items() if SHORTEST <= len(word) <= LONGEST and count <= MOST_FREQUENT}
    return tuple(sorted(word for word in words if not any(part in words for part in _parts(word))))


def distinct_words(rng: Random) -> Iterator[str]:
    """Words of the vocabulary in random order; once they are used up, pairs with a hyphen."""
    yield from rng.sample(vocabulary(), len(vocabulary()))
    yield from distinct_pairs(rng)


def distinct_pairs(rng: Random) -> Iterator[str]:
    """Pairs of words with a hyphen, without end for any context."""
    seen = set()
    while True:
        pair = f"{rng.choice(vocabulary())}-{rng.choice(vocabulary())}"
        if pair not in seen:
            seen.add(pair)
            yield pair


def _parts(word: str) -> Iterator[str]:
    """Proper parts of a word that are long enough to be words."""
    for length in range(SHORTEST, len(word)):
        for start in range(len(word) - length + 1):
            yield word[start : start + length]
