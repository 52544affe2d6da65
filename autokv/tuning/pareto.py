"""The front: what no other trial beats in every objective."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import SERVING_METRICS
from autokv.tuning.objectives import TIE, Constraint, losses, meets
from autokv.tuning.trial import TrialRecord

TIMED = frozenset({"attention_us", "attention_baseline_us", "attention_fp8_us", "compress_us"})
"""Metrics that come from timed runs: a difference smaller than its own spread is a tie."""
UNSTEADY = TIMED | SERVING_METRICS
"""These, and what is simulated from timed runs: a difference smaller than the simulator's error is a tie."""


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether ``first`` is nowhere worse and somewhere better; smaller is better."""
    pairs = list(zip(first, second, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def non_dominated(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other dominates; of equal points, the first."""
    array = np.array(points, dtype=np.float64)
    kept = []
    for index, point in enumerate(array):
        as_good = (array <= point).all(axis=1)
        better = as_good & (array < point).any(axis=1)
        if not better.any() and not as_good[:index].any():
            kept.append(index)
    return kept


def pareto_front(
    trials: Sequence[TrialRecord], objectives: Sequence[str], constraints: Sequence[Constraint]
) -> list[TrialRecord]:
    """The front of the complete trials that meet the constraints; of all complete ones where none does.

    A trial that another of the front beats everywhere but in times, and there by less than the spread of the
    difference or the simulator's error, is left out: it is no better as far as anyone can tell.
    """
    complete = [(trial, trial.measurement) for trial in trials if trial.measurement is not None]
    feasible = [(trial, measurement) for trial, measurement in complete if meets(measurement, constraints)]
    pool = feasible or complete
    exact = [pool[index] for index in non_dominated([losses(measurement, objectives) for _, measurement in pool])]
    steady = [name for name in objectives if name not in UNSTEADY]
    kept: list[tuple[TrialRecord, Measurement]] = []
    for trial, measurement in sorted(exact, key=lambda pair: losses(pair[1], [*steady, *objectives])):
        if not any(_as_good(other, measurement, objectives, steady) for _, other in kept):
            kept.append((trial, measurement))
    return sorted((trial for trial, _ in kept), key=lambda trial: trial.number)


def _as_good(first: Measurement, second: Measurement, objectives: Sequence[str], steady: Sequence[str]) -> bool:
    """Whether ``first`` dominates ``second`` when ties count as equal."""
    worse = [name for name in objectives if name in UNSTEADY and not _tie(first, second, name)]
    own, other = losses(first, [*steady, *worse]), losses(second, [*steady, *worse])
    return bool(own) and dominates(own, other)


def _tie(first: Measurement, second: Measurement, name: str) -> bool:
    """Whether two timings of the same prompts differ by less than the spread of their runs (``NAME_spread``), or two
    simulated figures by less than the simulator's error."""
    if name in SERVING_METRICS:
        values = first.value(name), second.value(name)
        return abs(values[0] - values[1]) <= TIE * max(map(abs, values))
    timed = {sample["id"]: sample for sample in second.samples if name in sample}
    pairs = [(sample, timed[sample["id"]]) for sample in first.samples if name in sample and sample["id"] in timed]
    if not pairs:
        return False
    difference = sum(one[name] - other[name] for one, other in pairs)
    spread = sum(max(one.get(f"{name}_spread", 0.0), other.get(f"{name}_spread", 0.0)) for one, other in pairs)
    return bool(abs(difference) < spread)
