"""The front seen along two of its metrics: everything a picture of it needs, free of any drawing library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.labels import CHARACTER, LINE, Box, Label, place
from autokv.report.scale import LOGARITHMIC, Scale
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

    ``line`` holds the corners of the front that nothing beats in this projection. ``baseline`` is the 16-bit cache, and
    ``None`` where a figure of it is unknown or where it is one of the front. A logarithmic axis shows a loss of
    0 at its end.
    """

    x: Scale
    y: Scale
    trials: tuple[Mark, ...]
    front: tuple[Mark, ...]
    line: tuple[tuple[float, float], ...]
    baseline: tuple[float, float] | None
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
                (*called.get(point.calibration.config.digest, ()), *_plain(point.calibration)),
            )
        )
        joined = {mark.measurement.config.digest for mark in front}
        trials = tuple(
            mark
            for measurement in view.measured(result.trials)
            if measurement.config.digest not in joined
            for mark in _marks(x, y, measurement, "calibration", ())
        )
        if not (trials or front):
            return None
        plain = view.baseline(result)
        limits = tuple(limit for limit in constraints if limit.metric in (x, y))
        apart = not any(view.FULL in mark.roles for mark in front)
        baseline = (plain[x], plain[y]) if apart and x in plain and y in plain else None
        xs = [mark.x for mark in trials + front] + ([baseline[0]] if baseline else [])
        # A loss that is 0 but for rounding would stretch a logarithmic axis over decades.
        shown = [mark for mark in trials + front if y not in LOGARITHMIC or not _plain(mark.measurement)]
        ys = [mark.y for mark in shown]
        ys += [baseline[1]] if baseline and baseline[1] else []
        for values, metric in ((xs, x), (ys, y)):
            values.extend(limit.limit for limit in limits if limit.metric == metric)
        return cls(Scale.over(x, xs), Scale.over(y, ys), trials, front, tuple(_corners(front, x, y)), baseline, limits)

    def labels(self, width: float, height: float) -> list[Label]:
        """The direct labels, placed for a plot of ``width`` by ``height`` pixels."""

        def at(x: float, y: float) -> tuple[float, float]:
            return self.x.fraction(x) * width, (1 - self.y.fraction(y)) * height

        named = sorted((mark for mark in self.front if mark.roles), key=lambda mark: mark.roles[0] != "recommended")
        wanted = [(", ".join(mark.roles), at(mark.x, mark.y)) for mark in named]
        if self.baseline is not None:
            wanted.insert(1, (view.FULL, at(*self.baseline)))
        obstacles = [Box.around(*at(mark.x, mark.y), 12, 12) for mark in self.front]
        obstacles += [Box.around(*at(mark.x, mark.y), 4, 4) for mark in self.trials]
        corners = [at(*corner) for corner in self.line]
        for (left, above), (right, below) in itertools.pairwise(corners):
            obstacles += [Box(left, above - 3, right, above + 3), Box.of((right - 3, above), (right + 3, below))]
        for limit in self.limits:
            if limit.metric == self.y.metric:
                y = at(self.x.low, limit.limit)[1]
                obstacles.append(Box(0, y - 3, width, y + 3))
        reserved = [Box.around(*point, 14, 14) for _, point in wanted]
        return place(wanted, obstacles, width, height, [*reserved, *self.bounds(width, height)])

    def bounds(self, width: float, height: float) -> list[Box]:
        """What the texts of the limits cover: on the side of a line where the front cannot be, at the plot's edge."""
        boxes = []
        for limit in self.limits:
            size = CHARACTER * len(view.bound(limit))
            if limit.metric == self.y.metric:
                y = (1 - self.y.fraction(limit.limit)) * height
                top = y + 1 if limit.kind == "max" else y - LINE - 1
                boxes.append(Box(2, top, 2 + size, top + LINE))
            else:
                x = self.x.fraction(limit.limit) * width
                left = x - size - 4 if x - size - 4 >= 0 else x + 4
                boxes.append(Box(left, height - LINE - 2, left + size, height - 2))
        return boxes


def projections(result: TuningResult, constraints: Sequence[Constraint] = ()) -> list[Projection]:
    """Quality and what decided over bytes; the attention time where bytes decided or nothing else is known."""
    quality, decided = view.quality_metric(result), view.deciding(result)
    served = decided not in (view.BYTES, view.TIME, quality)
    ys = dict.fromkeys((quality, *((decided,) if served else ()), view.RATIO))
    found = (Projection.of(result, view.BYTES, y, constraints) for y in ys)
    return [projection for projection in found if projection is not None]


def _plain(measurement: Measurement) -> tuple[str, ...]:
    return (view.FULL,) if measurement.config.pipeline.is_identity else ()


def _marks(x: str, y: str, measurement: Measurement, split: str, roles: tuple[str, ...]) -> Iterable[Mark]:
    across, up = view.mean(measurement, x), view.mean(measurement, y)
    if across is not None and up is not None and math.isfinite(across) and math.isfinite(up):
        yield Mark(across, up, measurement, split, roles)


def _corners(front: Iterable[Mark], x: str, y: str) -> Iterable[tuple[float, float]]:
    """The marks that no other beats on both metrics, along ``x`` from its good end to its bad one."""
    signs = [-1.0 if view.maximized(name) else 1.0 for name in (x, y)]
    best = math.inf
    for mark in sorted(front, key=lambda mark: (signs[0] * mark.x, signs[1] * mark.y)):
        if signs[1] * mark.y < best:
            best = signs[1] * mark.y
            yield mark.x, mark.y
