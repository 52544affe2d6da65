"""One needle: a magic number in repeated filler (RULER, Hsieh et al., 2024, ``niah_single``)."""

from __future__ import annotations

from random import Random

from autokv.evaluation.tasks.haystack import distinct_pairs, filler, scatter
from autokv.evaluation.tasks.task import Draft, Task, Variant


def sentence(key: str, number: int) -> str:
    """The needle."""
    return f"The special magic number for {key} is {number}."


def magic_number(rng: Random) -> int:
    """Seven digits."""
    return rng.randrange(1_000_000, 10_000_000)


def ask(sentences: list[str], key: str, number: int) -> Draft:
    """The request that hides ``sentences`` and asks for the number of ``key``."""
    return Draft(
        request=(
            "Somewhere in the following text is a special magic number. Remember it, you will be asked for it.\n\n"
            f"{' '.join(sentences)}\n\n"
            f"What is the special magic number for {key} in the text above?"
        ),
        answer_prefix=f"The special magic number for {key} in the text is",
        references=(str(number),),
    )


def draft(rng: Random, size: int) -> Draft:
    """``size`` is the number of filler sentences."""
    key, number = next(distinct_pairs(rng)), magic_number(rng)
    return ask(scatter(rng, [sentence(key, number)], filler(size)), key, number)


NEEDLE = Task("needle", (Variant(draft, minimum=1),))
