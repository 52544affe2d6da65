"""A needle among needles: other keys, other numbers (RULER, Hsieh et al., 2024, ``niah_multikey``)."""

from __future__ import annotations

from random import Random

from autokv.evaluation.tasks.haystack import distinct_pairs, filler, scatter
from autokv.evaluation.tasks.needle import ask, magic_number, sentence
from autokv.evaluation.tasks.task import Draft, Task, Variant

STEPS = 4
"""Filler sentences that are about as long as a needle; they make up what is less than one."""


def draft(rng: Random, size: int) -> Draft:
    """``size`` is in filler sentences; ``size // STEPS`` is the number of needles beside the one that is asked for."""
    needles, sentences = divmod(size, STEPS)
    keys = distinct_pairs(rng)
    key, number = next(keys), magic_number(rng)
    numbers = {number}
    depth = Random(rng.random())
    others: list[str] = []
    while len(others) < needles:
        other = magic_number(rng)
        if other not in numbers:
            numbers.add(other)
            others.append(sentence(next(keys), other))
    return ask([*filler(sentences), *scatter(depth, [sentence(key, number)], others)], key, number)


MULTI_KEY_NEEDLE = Task("multi_key_needle", (Variant(draft, minimum=STEPS),))
