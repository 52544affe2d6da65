"""The volume that a set of points dominates, exactly, and how it grew over a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""``[points, objectives]``, smaller is better."""
MARGIN = 0.1
"""The reference point lies this share of the range beyond the worst point, so that extreme points count."""


def hypervolume(points: Points, reference: Points) -> float:
    """Volume dominated by ``points`` and bounded by ``reference``.

    The WFG algorithm (While, Bradstreet and Barone, 2012) with a sweep for two objectives: each point adds its box
    less what the points after it share with that box.
    """
    inside = points[(points < reference).all(axis=1)]
    return _volume(_non_dominated(inside), reference)


def _volume(points: Points, reference: Points) -> float:
    """The same for points that do not dominate each other."""
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points[:, 0].min())
    ordered = points[np.argsort(points[:, 0])]
    if points.shape[1] == 2:
        ceilings = np.concatenate(([reference[1]], ordered[:-1, 1]))
        return float(((reference[0] - ordered[:, 0]) * (ceilings - ordered[:, 1])).sum())
    ordered = ordered[::-1]
    total = 0.0
    for index, point in enumerate(ordered):
        shared = np.maximum(ordered[index + 1 :], point)
        total += float(np.prod(reference - point))
        if len(shared):
            # Sorted this way, every shared point has the point's own first coordinate.
            depth = float(reference[0] - point[0])
            total -= depth * _volume(_non_dominated(shared[:, 1:]), reference[1:])
    return total


def _non_dominated(points: Points) -> Points:
    """Distinct points that no other point dominates, ascending."""
    ordered = np.unique(points, axis=0)
    if points.shape[1] == 2:  # a point survives where its second coordinate is a new low
        lows = np.minimum.accumulate(ordered[:, 1])
        return ordered[np.concatenate(([True], ordered[1:, 1] < lows[:-1]))] if len(ordered) else ordered
    kept = np.ones(len(ordered), dtype=bool)
    for index, point in enumerate(ordered):  # ascending: no later point dominates an earlier one
        if kept[index]:
            kept[index + 1 :] &= (ordered[index + 1 :] < point).any(axis=1)
    return ordered[kept]


@dataclass(frozen=True)
class Box:
    """The frame in which volumes of one run are shares: from its ideal point to a little beyond its worst."""

    ideal: Points
    span: Points

    @classmethod
    def around(cls, points: Points) -> Box:
        """The frame of at least one point; an objective in which all agree has span 1."""
        ideal = points.min(axis=0)
        span = points.max(axis=0) - ideal
        return cls(ideal, np.where(span > 0, span, 1.0))

    def normalise(self, points: Points) -> Points:
        """Ideal at 0, the worst at 1."""
        return (points - self.ideal) / self.span

    def share(self, points: Points) -> float:
        """Share of the frame that ``points`` dominate: 0 to 1, and more where points lie beyond its ideal point."""
        count = len(self.ideal)
        reference = np.full(count, 1.0 + MARGIN)
        return hypervolume(self.normalise(points), reference) / float(reference.prod())


def history(points: Sequence[Sequence[float] | None], box: Box | None = None) -> tuple[float, ...]:
    """Share dominated after each trial, in the frame of all of them; ``None`` for a trial that counts for nothing."""
    known = [point for point in points if point is not None]
    if not known:
        return (0.0,) * len(points)
    frame = box or Box.around(np.array(known, dtype=np.float64))
    shares: list[float] = []
    front = np.empty((0, len(known[0])))
    for point in points:
        if point is None or any((other <= point).all() for other in front):
            shares.append(shares[-1] if shares else 0.0)
            continue
        front = _non_dominated(np.vstack([front, point]))
        shares.append(max(frame.share(front), shares[-1] if shares else 0.0))
    return tuple(shares)
