"""Which of a target's settings is nearest to what was asked: first by the bits of keys and values, then by kind."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import log2
from typing import Final, Literal

from autokv.config import LayerFormats, Pipeline
from autokv.export.fidelity import differing, form_of
from autokv.formats import BF16, F16, F32, FP8E4M3, FP8E5M2, KVFormat
from autokv.models.facts import ModelFacts

USUAL_HEAD_DIM: Final = 128
"""Where the model is not known."""
PLAIN: Final = (F32, F16, BF16)
_FLOATS: Final = (*PLAIN, FP8E4M3, FP8E5M2)
_OTHER_FORMAT, _OTHER_KIND, _OTHER_OPTIONS = 0.05, 0.02, 0.01


def head_dim_of(facts: ModelFacts | None) -> int:
    """Channels of a head, the usual number where the model is not known."""
    return USUAL_HEAD_DIM if facts is None else facts.head_dim


def fits(form: KVFormat, facts: ModelFacts | None) -> bool:
    """Whether the model's heads can be held; true where it is not known."""
    try:
        if facts is not None:
            form.check(facts.head_dim, facts.kv_heads)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)
def distance(asked: KVFormat, held: KVFormat, head_dim: int) -> float:
    """How far ``held`` is from ``asked``: the logarithm of the ratio of their bits, and a little for each other
    difference. 0 only for the same format. A rotation that another format has is no difference: it is the engine's."""
    if asked == held:
        return 0.0
    apart = abs(log2(_bits(asked, head_dim) / _bits(held, head_dim)))
    apart += _OTHER_OPTIONS if type(asked) is type(held) else _OTHER_FORMAT
    if isinstance(asked, _FLOATS) != isinstance(held, _FLOATS):
        apart += _OTHER_KIND
    return apart


def nearest_form(asked: KVFormat, choices: Iterable[KVFormat], facts: ModelFacts | None) -> KVFormat | None:
    """The nearest of ``choices`` that the model's heads fit; None where none does."""
    fitting = [choice for choice in choices if fits(choice, facts)]
    return min(fitting, key=lambda choice: distance(asked, choice, head_dim_of(facts)), default=None)


def nearest_pipeline(asked: Pipeline, choices: Iterable[Pipeline], facts: ModelFacts | None) -> Pipeline | None:
    """The nearest of ``choices``, which all quantize; None where there is none that fits."""
    sides: tuple[Literal["key", "value"], ...] = ("key", "value")
    wanted = {side: form_of(asked.quantization, side) for side in sides}

    def apart(choice: Pipeline) -> float:
        total = 0.0
        for side in sides:
            before, after = wanted[side], form_of(choice.quantization, side)
            if before is not None and after is not None:
                total += distance(before[0], after[0], head_dim_of(facts))
                total += _OTHER_OPTIONS * (before[1] != after[1])
        return total

    fitting = [
        (apart(choice), choice)
        for choice in choices
        if all((held := form_of(choice.quantization, side)) is not None and fits(held[0], facts) for side in sides)
    ]
    least = min((far for far, _ in fitting), default=0.0)
    nearest = [choice for far, choice in fitting if far == least]
    return min(nearest, key=lambda choice: len(differing(asked, choice)), default=None)


def is_plain(entry: LayerFormats) -> bool:
    """Whether layers are held uncompressed, keys as values."""
    return isinstance(entry.key, PLAIN) and entry.key == entry.value


def _bits(form: KVFormat, head_dim: int) -> float:
    for width in (head_dim, USUAL_HEAD_DIM):
        try:
            return form.bits_per_value(width)
        except ValueError:
            continue
    return float(getattr(form, "bits", 8))
