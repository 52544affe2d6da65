"""Which points of a front differ by more than noise, so that a table need not list twenty that do not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.tuning.objectives import TIE
from autokv.tuning.trial import FrontPoint, TuningResult

SIZE = 0.05
"""Sizes that differ by a smaller share are alike: no server holds a request more or less for it."""
TIMED = 0.1
"""Ratios of times that differ by a smaller share are the same, however small the spread of their runs was."""
ERRORS = 2.0
"""Standard errors of the paired difference within which two losses are the same."""
Kept = list[tuple[FrontPoint, list[FrontPoint]]]


def distinct(result: TuningResult) -> Kept:
    """The points to list, smallest first, each with those that do not differ from it within noise in any column.

    What has a role is always listed. Of others that are alike the smallest is.
    """
    called = view.roles(result)
    columns = view.columns(result)
    ordered = sorted(view.by_size(result.front), key=lambda point: point.calibration.config.digest not in called)
    kept: Kept = []
    for point in ordered:
        named = point.calibration.config.digest in called
        same = next((like for one, like in kept if not named and _alike(one, point, columns)), None)
        if same is None:
            kept.append((point, []))
        else:
            same.append(point)
    return sorted(kept, key=lambda row: view.mean(view.shown(row[0]), view.BYTES) or 0.0)


def _alike(one: FrontPoint, other: FrontPoint, columns: Sequence[str]) -> bool:
    if view.verdict(one) != view.verdict(other):
        return False
    return all(same(name, view.shown(one), view.shown(other)) for name in columns)


def same(metric: str, one: Measurement, other: Measurement) -> bool:
    """Whether two configurations differ in ``metric`` by no more than noise."""
    first, second = view.mean(one, metric), view.mean(other, metric)
    if first is None or second is None:
        return first is second
    if metric == view.BYTES:
        return _close(first, second, SIZE)
    if metric == view.RATIO:
        return _close(first, second, max(TIMED, view.spread(one), view.spread(other)))
    if metric in view.QUALITY:
        return _within_error(metric, one, other)
    return _close(first, second, TIE)


def _close(one: float, other: float, share: float) -> bool:
    return math.isclose(one, other, rel_tol=share)


def _within_error(metric: str, one: Measurement, other: Measurement) -> bool:
    """Whether the mean difference over the prompts that both saw is within its error; equal where none varies."""
    before = {sample.get("id"): float(sample[metric]) for sample in one.samples if metric in sample}
    both = [float(sample[metric]) - before[sample["id"]] for sample in other.samples if sample.get("id") in before]
    if len(both) < 2:
        return view.mean(one, metric) == view.mean(other, metric)
    error = statistics.stdev(both) / math.sqrt(len(both))
    return abs(statistics.fmean(both)) <= ERRORS * error
