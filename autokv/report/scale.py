"""One axis of a chart: its range, where its ticks are, and how far along it a value lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LOGARITHMIC = frozenset({"kl_divergence", "kv_bytes_per_token", "compression_ratio"})
"""Metrics whose ratios matter more than their differences."""
TIMES = ("_us", "_ms", "_ratio")
"""Endings of what is drawn on a logarithmic axis where it spans more than the factor of :data:`WIDE`."""
WIDE = 10.0
SIXTHS = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0]
STEPS = {
    "seconds": SIXTHS,
    "minutes": SIXTHS,
    "hours": [1.0, 2.0, 3.0, 6.0, 12.0, 24.0],
    "trials": [1.0, 2.0, 5.0, 10.0],
}
"""Steps between the ticks of an axis of time, or of what is counted."""
NARROWEST = 0.1
"""Least span of a linear axis, as a share of its values."""
MARGIN = 0.06
"""Empty share of an axis beyond the outermost values."""


@dataclass(frozen=True)
class Scale:
    """An axis for ``metric`` from ``low`` to ``high``, both in the metric's unit."""

    metric: str
    log: bool
    low: float
    high: float

    @classmethod
    def over(cls, metric: str, values: Sequence[float]) -> Scale:
        """A scale that holds every finite value; values a logarithm cannot show do not stretch it."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        positive = [value for value in finite if value > 0]
        wide = metric.endswith(TIMES) and len(positive) == len(finite) and max(finite) > WIDE * min(finite)
        if positive and (metric in LOGARITHMIC or wide):
            low, high = math.log(min(positive)), math.log(max(positive))
            margin = (high - low or 1.0) * MARGIN
            return cls(metric, True, math.exp(low - margin), math.exp(high + margin))
        low, high = min(finite), max(finite)
        short = NARROWEST * max(abs(low), abs(high)) - (high - low)
        if short > 0:  # differences that do not matter shall not look as if they did
            low, high = low - short / 2, high + short / 2
        margin = (high - low or abs(high) or 1.0) * MARGIN
        return cls(metric, False, 0.0 if 0 <= low < high / 2 else low - margin, high + margin)

    @classmethod
    def up_to(cls, name: str, high: float, low: float = 0.0) -> Scale:
        """A linear scale of amounts, or of time in units called ``name``."""
        return cls(name, False, low, high if high > low else low + 1.0)

    @classmethod
    def logarithmic(cls, name: str, low: float, high: float) -> Scale:
        """A logarithmic scale of positive amounts."""
        return cls(name, True, low, high if high > low else low * 10.0)

    def fraction(self, value: float) -> float:
        """Where ``value`` lies, 0 at ``low`` and 1 at ``high``; clamped, so that a KL of 0 sits on the axis."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))

    def value(self, fraction: float) -> float:
        """The inverse of :meth:`fraction` within the range."""
        if self.log:
            return float(self.low * (self.high / self.low) ** fraction)
        return self.low + fraction * (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """At most about ``most`` round values inside the range."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def tick_text(self, value: float) -> str:
        """What is written at a tick: no trailing zeros, thousands grouped, millions as ``2M``."""
        for size, suffix in ((1e9, "G"), (1e6, "M")):
            if size <= abs(value) < 1e12:
                return f"{value / size:.4g}{suffix}"
        if value and not 1e-4 <= abs(value) < 1e12:
            return f"{value:.0e}"
        return f"{value:,.6f}".rstrip("0").rstrip(".")

    def _log_ticks(self, most: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for digits in ((1, 2, 5), (1, 3), (1,)):
            found = [digit * 10.0**decade for decade in decades for digit in digits]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) <= most:
                break
        else:
            found = found[:: math.ceil(len(found) / most)]
        return found if len(found) > 1 else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        rough = (self.high - self.low) / max(1, most - 1)
        power = 10.0 ** math.floor(math.log10(rough))
        usual = [size * power for size in (1, 2, 2.5, 5, 10)]
        step = next(step for step in STEPS.get(self.metric, usual) + usual if step >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(index * step, 12) for index in range(first, last + 1)]
