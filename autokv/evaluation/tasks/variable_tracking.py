"""A chain of assignments in noise: which variables hold the value? (RULER, Hsieh et al., 2024, ``vt``)."""

from __future__ import annotations

from random import Random
from string import ascii_uppercase

from autokv.evaluation.tasks.haystack import filler, scatter
from autokv.evaluation.tasks.task import Draft, Task, Variant

HOPS = 4
NAME_LETTERS = 5


def draft(rng: Random, size: int) -> Draft:
    """``size`` is the number of filler sentences."""
    names: list[str] = []
    while len(names) < HOPS + 1:
        name = "".join(rng.choices(ascii_uppercase, k=NAME_LETTERS))
        if name not in names:
            names.append(name)
    value = rng.randrange(10_000, 100_000)
    sources = [str(value), *(f"VAR {name}" for name in names)]
    chain = [f"VAR {name} = {source}." for name, source in zip(names, sources, strict=False)]
    return Draft(
        request=(
            "Follow the assignments to variables that are hidden in the following text.\n\n"
            f"{' '.join(scatter(rng, chain, filler(size)))}\n\n"
            f"Which variables have the value {value} in the text above? Name all {len(names)}."
        ),
        answer_prefix=f"The {len(names)} variables with the value {value} are:",
        references=tuple(names),
    )


VARIABLE_TRACKING = Task("variable_tracking", (Variant(draft, minimum=1),))
