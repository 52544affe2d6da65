"""Monotone interpolation of measured times: a curve over one size, a grid over batch and length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import isotonic_regression


@dataclass(frozen=True)
class Curve:
    """A rising piecewise-linear function through measured points.

    Noise that would let it fall is pooled (isotonic regression). Beyond the last point it goes on with the slope of
    the last two, before the first it stays at the first's value or follows a line through the origin, whichever is
    lower slope. ``error`` is the relative error to state there: how far the line through the two measured points before
    misses the last one.
    """

    x: tuple[float, ...]
    """Ascending, each once."""
    y: tuple[float, ...]
    limit: float | None = None
    """The largest size that was measured, where the points beyond it were drawn on; None: the last point's."""

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]], limit: float | None = None) -> Self:
        """Through ``(size, seconds)``; several values of one size are averaged by their median."""
        sizes = sorted({float(x) for x, _ in points})
        medians = [float(np.median([y for x, y in points if x == size])) for size in sizes]
        rising = isotonic_regression(medians).x
        return cls(tuple(sizes), tuple(float(y) for y in rising), limit)

    def __call__(self, x: float) -> float:
        """The value at ``x`` >= 0."""
        xs, ys = self.x, self.y
        if len(xs) == 1:
            return ys[0] if x <= xs[0] else ys[0] * x / xs[0]
        at = min(max(bisect_right(xs, x), 1), len(xs) - 1)
        x0, x1, y0, y1 = xs[at - 1], xs[at], ys[at - 1], ys[at]
        return max(0.0, y0 + (y1 - y0) * (x - x0) / (x1 - x0))

    @property
    def measured_to(self) -> float:
        """The largest size that was measured."""
        return self.x[-1] if self.limit is None else self.limit

    @property
    def error(self) -> float:
        """Relative error to expect beyond what was measured; 1 where too little was measured to tell."""
        count = bisect_right(self.x, self.measured_to)
        if count < 3 or not self.y[count - 1]:
            return 1.0
        x, y = self.x[:count], self.y[:count]
        return abs(type(self)(x[:-1], y[:-1])(x[-1]) - y[-1]) / y[-1]

    def scaled(self, factor: float) -> Self:
        """All values times ``factor``."""
        return type(self)(self.x, tuple(y * factor for y in self.y), self.limit)


@dataclass(frozen=True)
class Grid:
    """Seconds over (batch, tokens per sequence): one curve over the tokens per batch size, ascending.

    Between two batch sizes and beyond them, values are interpolated and extrapolated linearly in the batch.
    """

    batches: tuple[int, ...]
    curves: tuple[Curve, ...]

    @classmethod
    def fit(cls, points: Sequence[tuple[int, float, float]]) -> Self:
        """Through ``(batch, tokens, seconds)``; every batch size has been measured at the same tokens."""
        batches = sorted({batch for batch, _, _ in points})
        curves = [Curve.fit([(x, y) for batch, x, y in points if batch == size]) for size in batches]
        tokens = curves[0].x
        # Rising with the batch as well.
        columns = [isotonic_regression([curve(x) for curve in curves]).x for x in tokens]
        rows = [Curve(tokens, tuple(float(column[row]) for column in columns)) for row in range(len(batches))]
        return cls(tuple(batches), tuple(rows))

    def at(self, batch: int) -> Curve:
        """The curve over tokens per sequence for one batch size."""
        if batch in self.batches:
            return self.curves[self.batches.index(batch)]
        if len(self.batches) == 1:
            return self.curves[0].scaled(batch / self.batches[0])
        at = min(max(bisect_right(self.batches, batch), 1), len(self.batches) - 1)
        low, high = self.batches[at - 1], self.batches[at]
        share = (batch - low) / (high - low)
        first, second = self.curves[at - 1], self.curves[at]
        return Curve(first.x, tuple(max(0.0, a + (b - a) * share) for a, b in zip(first.y, second.y, strict=True)))

    def __call__(self, batch: int, tokens: float) -> float:
        """Seconds of a batch whose sequences hold ``tokens`` each, on average."""
        return self.at(batch)(tokens)

    def scaled(self, factor: float) -> Self:
        """All values times ``factor``."""
        return type(self)(self.batches, tuple(curve.scaled(factor) for curve in self.curves))
