"""The front seen along two of its metrics: everything a picture of it needs, free of any drawing library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS
from autokv.report import view
from autokv.report.format import quantity
from autokv.report.labels import LINE, Box, Label, place
from autokv.report.scale import Scale
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import TuningResult


@dataclass(frozen=True)
class Mark:
    """One configuration, measured on the prompts of ``split``; ``x`` and ``y`` are in their metrics' units."""

    x: float
    y: float
    measurement: Measurement
    split: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Projection:
    """Trials and front over the metrics ``x`` and ``y``.

    Front points stand where the validation prompts put them, for that is what constraints and roles are judged by;
    the other trials have calibration values only.

    ``line`` holds the corners of the front that nothing beats in this projection. ``baseline`` is the 16-bit cache;
    its ``y`` is ``None`` where it is zero by definition and a logarithmic axis cannot show it.
    """

    x: Scale
    y: Scale
    trials: tuple[Mark, ...]
    front: tuple[Mark, ...]
    line: tuple[tuple[float, float], ...]
    baseline: tuple[float, float | None] | None
    limits: tuple[Constraint, ...]

    @classmethod
    def of(cls, result: TuningResult, x: str, y: str, constraints: Sequence[Constraint] = ()) -> Projection | None:
        """The projection, or ``None`` where nothing was measured on both metrics."""
        called = view.roles(result)
        front = tuple(
            mark
            for point in result.front
            for mark in _marks(
                x,
                y,
                view.shown(point),
                "validation" if point.validation else "calibration",
                called.get(point.calibration.config.digest, ()),
            )
        )
        joined = {mark.measurement.config.digest for mark in front}
        trials = tuple(
            mark
            for _, measurement in view.measured(result.trials)
            if measurement.config.digest not in joined
            for mark in _marks(x, y, measurement, "calibration", ())
        )
        if not (trials or front):
            return None
        plain = view.baseline(result)
        limits = tuple(limit for limit in constraints if limit.metric in (x, y))
        xs = [mark.x for mark in trials + front]
        ys = [mark.y for mark in trials + front]
        for values, metric in ((xs, x), (ys, y)):
            values.extend([plain[metric]] if metric in plain else [])
            values.extend(limit.limit for limit in limits if limit.metric == metric)
        baseline = (plain[x], plain.get(y)) if x in plain else None
        return cls(Scale.over(x, xs), Scale.over(y, ys), trials, front, tuple(_corners(front, x, y)), baseline, limits)

    def labels(self, width: float, height: float) -> list[Label]:
        """The direct labels, placed for a plot of ``width`` by ``height`` pixels."""

        def at(x: float, y: float) -> tuple[float, float]:
            return self.x.fraction(x) * width, (1 - self.y.fraction(y)) * height

        named = sorted((mark for mark in self.front if mark.roles), key=lambda mark: mark.roles[0] != "recommended")
        wanted = [(", ".join(mark.roles), at(mark.x, mark.y)) for mark in named]
        if self.baseline is not None:
            x, y = self.baseline
            text = f"16-bit, {quantity(self.x.metric, x) if y is None else quantity(self.y.metric, y)}"
            wanted.append((text, at(x, self.y.high if y is None else y)))
        obstacles = [Box.around(*at(mark.x, mark.y), 12, 12) for mark in self.front]
        obstacles += [Box.around(*at(mark.x, mark.y), 4, 4) for mark in self.trials]
        corners = [at(*corner) for corner in self.line]
        for (left, above), (right, below) in itertools.pairwise(corners):
            obstacles += [Box(left, above - 3, right, above + 3), Box(right - 3, above, right + 3, below)]
        reserved = []
        for limit in self.limits:
            if limit.metric == self.y.metric:
                y = at(self.x.low, limit.limit)[1]
                reserved.append(Box(0, y, 90, y + LINE) if limit.kind == "max" else Box(0, y - LINE, 90, y))
        return place(wanted, obstacles, width, height, reserved)


def projections(result: TuningResult, constraints: Sequence[Constraint] = ()) -> list[Projection]:
    """Quality over bytes and time over bytes, as far as they were measured."""
    pairs = ((view.BYTES, view.quality_metric(result)), (view.BYTES, view.TIME))
    found = (Projection.of(result, x, y, constraints) for x, y in pairs)
    return [projection for projection in found if projection is not None]


def _marks(x: str, y: str, measurement: Measurement, split: str, roles: tuple[str, ...]) -> Iterable[Mark]:
    across, up = view.mean(measurement, x), view.mean(measurement, y)
    if across is not None and up is not None and math.isfinite(across) and math.isfinite(up):
        yield Mark(across, up, measurement, split, roles)


def _corners(front: Iterable[Mark], x: str, y: str) -> Iterable[tuple[float, float]]:
    """The marks that no other beats on both metrics, along ``x`` from its good end to its bad one."""
    signs = [-1.0 if METRICS[name].direction == "maximize" else 1.0 for name in (x, y)]
    best = math.inf
    for mark in sorted(front, key=lambda mark: (signs[0] * mark.x, signs[1] * mark.y)):
        if signs[1] * mark.y < best:
            best = signs[1] * mark.y
            yield mark.x, mark.y
