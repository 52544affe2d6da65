"""One configuration out of a confirmed front, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS
from autokv.evaluation.naming import aim, label, unit
from autokv.tuning.hypervolume import Box
from autokv.tuning.objectives import TIE, Constraint, compared, loss, losses, meets, speedup, violations
from autokv.tuning.trial import FrontPoint

QUALITY = frozenset(
    {"kl_divergence", "top1_agreement", "nll_delta", "task_score", "negative_sample_rate", "output_length_ratio"}
)
UTILITY = "sustained_requests_per_s"
"""What a configuration is worth where a trace is served: cost per request is its inverse."""
BYTES = "kv_bytes_per_token"
"""What decides without a trace."""
ALIKE_BYTES = 0.01
"""Sizes that differ by a smaller share are equal."""
SAFE_RATIO = 2.0
"""Compression from which, scales aside, a configuration may be called the safest."""
ALIKE = 0.1
"""Losses of quality that differ by no more are the same."""
DEFAULT_QUALITY = Constraint("kl_divergence", "max", 0.05)
"""The bound where the user gives none on quality; without one the smallest cache would be useless."""


@dataclass(frozen=True)
class Recommendation:
    """Digests, and one line for a person."""

    recommended: str | None
    named: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    objective: str = BYTES
    """The metric that decided."""
    slower: bool = False
    """Whether every compressed configuration that meets the constraints attends slower than 16 bits."""


def required(constraints: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """The user's constraints, with :data:`DEFAULT_QUALITY` where none of them is on quality."""
    if any(constraint.metric in QUALITY for constraint in constraints):
        return tuple(constraints)
    return (*constraints, DEFAULT_QUALITY)


def passes(measurement: Measurement, constraints: Sequence[Constraint]) -> bool:
    """Whether a validated configuration may be recommended: it meets the :func:`required` constraints and, unless one
    of them says how many tasks may be lost, loses none that the full cache solves."""
    bounded = any(constraint.metric == "negative_sample_rate" for constraint in constraints)
    return meets(measurement, required(constraints)) and (bounded or not lost_tasks(measurement))


def rivals(measured: Iterable[Measurement], constraints: Sequence[Constraint]) -> list[Measurement]:
    """The compressed ones of a validated front that might be recommended."""
    return [one for one in measured if not one.config.pipeline.is_identity and passes(one, constraints)]


def no_rival(measured: Collection[Measurement], constraints: Sequence[Constraint]) -> str:
    """Why no compressed configuration of a validated front can be recommended; empty where one can."""
    if rivals(measured, constraints):
        return ""
    if all(one.config.pipeline.is_identity for one in measured):
        which = " that meets the constraints" if constraints else ""
        return f"No compressed configuration{which} is on the front of these objectives, so 16 bits are recommended"
    return "No compressed configuration of the front keeps to the bounds, so 16 bits are recommended"


def lost_tasks(measurement: Measurement) -> tuple[str, ...]:
    """Ids of the generated tasks that the full cache solves and this configuration does not."""
    return tuple(
        str(sample["id"]) for sample in measurement.samples if sample.get("task") and sample.get("negative_sample_rate")
    )


def recommend(
    front: Sequence[FrontPoint],
    objectives: Sequence[str],
    constraints: Sequence[Constraint],
    utility: str | None = None,
) -> Recommendation:
    """The configuration that is worth the most among those that :func:`passes` on the validation prompts.

    What it is worth is the metric ``utility``: by default :data:`UTILITY` where a trace was served, else the bytes.
    Configurations within :data:`TIE` of the best are worth the same; of these the one with the better quality, then
    with fewer stages, then with fewer bytes. No compression is a candidate like any other and so wins where nothing is
    worth more. By bytes, only those count that attend no slower than 16 bits by more than the spread of the timings,
    unless every compressed one is slower.

    Where some pass on the calibration prompts too, it is one of those: what fails on one half of the prompts and passes
    on the other has been lucky. Beside it are named, among the points that meet the user's own constraints, or among
    all where none does: ``fastest`` (per output token where a trace was served, else by attention), ``smallest``,
    ``safest`` (the best quality at :data:`SAFE_RATIO` or more) and ``knee``, which lies farthest below the plane
    through the worst corners: the point that compresses with the least sum of losses, each scaled to 0 … 1.
    """
    confirmed = [(point.validation, point) for point in front if point.validation is not None]
    if not confirmed:
        return Recommendation(
            None, reason="no configuration was confirmed on validation prompts, so none is recommended"
        )
    measured = [measurement for measurement, _ in confirmed]
    quality = next((name for name in objectives if name in QUALITY), DEFAULT_QUALITY.metric)
    named = _named([one for one in measured if meets(one, constraints)] or measured, objectives, quality)
    wanted = required(constraints)
    asked = " and ".join(one.words for one in wanted)
    if len(wanted) > len(constraints):
        asked += " (the default, since no constraint on quality was given)"
    passing = [(one, point) for one, point in confirmed if passes(one, constraints)]
    if not passing:
        return Recommendation(None, named, _why_none(measured, wanted, asked))
    steady = [one for one, point in passing if meets(point.calibration, wanted)]
    pool, where = (steady, "calibration and validation") if steady else ([one for one, _ in passing], "validation")
    served = all(UTILITY in one.metrics for one in pool)
    objective = utility or (_kept(pool) if served else BYTES)
    judged = [one for one in pool if objective in one.metrics]
    if not judged:
        reason = f"{label(objective)} was to decide, but no configuration has a value of it, so none is recommended"
        return Recommendation(None, named, reason)
    slower = False
    if objective == BYTES:
        bent = [one for one in judged if not one.config.pipeline.is_identity]
        slower = bool(bent) and all(map(_slower, bent))
        judged = bent if slower else [one for one in judged if not _slower(one)]
    best = _best(judged, objective, quality)
    word, speed, count = "the smallest", "", len(pool)
    if objective != BYTES:
        figure = f"{best.value(objective):.4g} {unit(objective)}".rstrip()
        word = f"the {aim(objective)} ({figure}{_beside(judged, best, objective)})"
    elif not slower and len(judged) < len(pool):
        speed, count = " and attention no slower than with 16 bits", len(judged)
    many = f"{word} of {count} configurations" if count > 1 else "the only configuration of the front"
    reason = f"{many} with {asked} on {where} prompts{speed}: {best.value(BYTES):,.0f} bytes per token"
    return Recommendation(best.config.digest, named, reason, objective, slower)


def _kept(pool: Sequence[Measurement]) -> str:
    """What decides where a trace is served: the sustained rate; where nothing keeps the SLO, goodput or throughput."""
    ranked = (UTILITY, "goodput_requests_per_s", "throughput_tokens_per_s")
    known = [name for name in ranked if all(name in one.metrics for one in pool)]
    return next((name for name in known if any(one.value(name) > 0 for one in pool)), UTILITY)


def _best(pool: Sequence[Measurement], objective: str, quality: str) -> Measurement:
    """The best by ``objective``; of those that tie with it the best in quality, the simplest, the smallest."""
    maximize = METRICS[objective].direction == "maximize"
    values = [_time(one, objective) for one in pool]
    best = max(values) if maximize else min(values)
    tie = ALIKE_BYTES if objective == BYTES else TIE
    leading = [one for one, value in zip(pool, values, strict=True) if abs(value - best) <= tie * abs(best)]
    return min(leading, key=lambda one: (_class(one, quality), _stages(one), one.value(BYTES)))


def _beside(pool: Sequence[Measurement], best: Measurement, objective: str) -> str:
    """That another one is ahead within noise, and why it was not taken."""
    maximize = METRICS[objective].direction == "maximize"
    ahead = (max if maximize else min)(pool, key=lambda one: _time(one, objective))
    if _time(ahead, objective) == _time(best, objective):
        return ""
    first = ahead.value(objective)
    return f"; another reaches {first:.4g}, which is within noise ({TIE:.0%}), at lower quality or with more stages"


def _class(measurement: Measurement, quality: str) -> int:
    return round(loss(quality, measurement.value(quality)) / ALIKE)


def _stages(measurement: Measurement) -> int:
    pipeline = measurement.config.pipeline
    return sum(stage.method != "none" for stage in (pipeline.eviction, pipeline.quantization, pipeline.low_rank))


def _slower(measurement: Measurement) -> bool:
    """Whether it attends slower than PyTorch's 16-bit attention by more than noise; the 16-bit cache never does."""
    found = None if measurement.config.pipeline.is_identity else speedup(measurement)
    return found is not None and found[0] < 1 and not found[1]


def _time(measurement: Measurement, metric: str) -> float:
    """A figure; attention over PyTorch in 16 bits, where that was timed; the 16-bit cache is served with it."""
    plain = metric == "attention_us" and measurement.config.pipeline.is_identity
    return 1.0 if plain and "attention_baseline_us" in measurement.metrics else compared(measurement, metric)


def _named(measured: Sequence[Measurement], objectives: Sequence[str], quality: str) -> dict[str, str]:
    named = {"smallest": min(measured, key=lambda one: one.value(BYTES))}
    for metric in ("tpot_ms", "attention_us"):
        timed = [one for one in measured if metric in one.metrics]
        if timed:
            named["fastest"] = min(timed, key=lambda one, name=metric: _time(one, name))  # type: ignore[misc]
            break
    bent = [one for one in measured if not one.config.pipeline.is_identity] or measured
    points = np.array([losses(one, objectives) for one in bent])
    named["knee"] = bent[int(Box.around(points).normalise(points).sum(axis=1).argmin())]
    small = [one for one in measured if "compression_ratio" in one.metrics]
    small = [one for one in small if one.value("compression_ratio") >= SAFE_RATIO * (1 - ALIKE_BYTES)]
    if small:
        named["safest"] = min(small, key=lambda one: (loss(quality, one.value(quality)), one.value(BYTES)))
    return {name: one.config.digest for name, one in named.items()}


def _why_none(measured: Sequence[Measurement], wanted: Sequence[Constraint], asked: str) -> str:
    meeting = [one for one in measured if meets(one, wanted)]
    if meeting:
        fewest = min(meeting, key=lambda one: (len(lost_tasks(one)), one.value(BYTES)))
        lost = lost_tasks(fewest)
        return (
            f"every configuration of the front with {asked} loses generated tasks that the full cache solves, so "
            f"none is recommended; {fewest.config.digest[:12]} loses the fewest: {', '.join(lost)}"
        )
    closest = min(measured, key=lambda one: _shortfall(one, wanted))
    missed = ", ".join(
        f"{label(constraint.metric)} {constraint.amount(closest.value(constraint.metric))}"
        for constraint in wanted
        if constraint.violation(closest.value(constraint.metric)) > 0
    )
    return (
        f"no configuration of the front has {asked} on validation prompts, so none is recommended; "
        f"{closest.config.digest[:12]} comes closest with {missed}"
    )


def _shortfall(measurement: Measurement, constraints: Sequence[Constraint]) -> float:
    return sum(max(0.0, violation) for violation in violations(measurement, constraints).values())
