"""The front as tables: what differs, beside the 16-bit cache; and, folded away, every point on both splits."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.changes import Change, change
from autokv.report.describe import describe
from autokv.report.format import Unit, common_unit, heading
from autokv.tuning.objectives import TIE, speedup
from autokv.tuning.trial import FrontPoint, TuningResult

REFERENCE = "PyTorch's fastest 16-bit attention"
"""What attention times are compared with."""
SIZE = 0.05
"""Sizes that differ by a smaller share are alike: no server holds a request more or less for it."""
TIMED = 0.1
"""Ratios of times that differ by a smaller share are the same, however small the spread of their runs was."""
ERRORS = 2.0
"""Standard errors of the paired difference within which two losses are the same."""
Kept = list[tuple[FrontPoint, list[FrontPoint]]]


@dataclass(frozen=True)
class Cell:
    """A figure, printed in units of ``scale``, or a change."""

    value: float | None = None
    scale: float = 1.0
    change: Change | None = None


@dataclass(frozen=True)
class Row:
    """A configuration of the front."""

    digest: str
    name: str
    roles: Sequence[str]
    origin: str
    cells: Sequence[Cell]
    """Two for each metric."""
    verdict: str


@dataclass(frozen=True)
class Table:
    """A row per configuration, two columns per metric."""

    label: str
    heads: Sequence[str]
    """A metric and its unit, above two columns each."""
    splits: Sequence[str]
    """What each column holds."""
    rows: Sequence[Row]


def differing(result: TuningResult) -> Table:
    """The points that differ by more than noise: for each metric its value and how that compares."""
    columns, called, full = view.columns(result), view.roles(result), view.baseline(result)
    points = distinct(result)
    units = _units(columns, [view.shown(point) for point, _ in points])
    rows = [
        _row(
            point,
            called,
            [cell for name in columns for cell in _against(name, view.shown(point), full, units[name])],
            f"and {len(like)} like it · " if like else "",
        )
        for point, like in points
    ]
    splits = [
        part for name in columns for part in (("mean", "worst") if name in view.QUALITY else ("value", "vs 16-bit"))
    ]
    return Table("The front: what differs by more than noise", _heads(columns, units), splits, rows)


def every(result: TuningResult) -> Table:
    """Every point: each metric on calibration and on validation prompts."""
    columns, called = view.columns(result), view.roles(result)
    splits = [split for point in result.front for split in (point.calibration, point.validation) if split is not None]
    units = _units(columns, splits)
    rows = [
        _row(
            point,
            called,
            [
                Cell(view.mean(split, name), units[name].scale)
                for name in columns
                for split in (point.calibration, point.validation)
            ],
            f"trial {point.trial}, {point.source} · ",
        )
        for point in view.by_size(result.front)
    ]
    label = "The front: every configuration on both splits"
    return Table(label, _heads(columns, units), ["calibration", "validation"] * len(columns), rows)


def _against(metric: str, found: Measurement, full: Mapping[str, float], unit: Unit) -> Iterable[Cell]:
    value = view.mean(found, metric)
    yield Cell(value, unit.scale)
    if metric in view.QUALITY:
        yield Cell(found.metrics[metric].worst if metric in found.metrics else None, unit.scale)
    else:
        compared = speedup(found) if metric == view.RATIO else None
        tie = found.config.pipeline.is_identity or (compared is not None and compared[1])
        yield Cell(change=change(metric, value, full.get(metric), tie=tie))


def _row(point: FrontPoint, called: Mapping[str, tuple[str, ...]], cells: Sequence[Cell], origin: str) -> Row:
    config = point.calibration.config
    return Row(config.digest, describe(config), called.get(config.digest, ()), origin, cells, view.verdict(point))


def _heads(columns: Iterable[str], units: Mapping[str, Unit]) -> list[str]:
    return [f"{heading(name)} ({units[name].name})" for name in columns]


def _units(columns: Iterable[str], measured: Sequence[Measurement]) -> dict[str, Unit]:
    return {name: common_unit(name, [view.mean(one, name) for one in measured]) for name in columns}


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
