"""How a figure compares with the 16-bit cache's: a change, and in words whether it is better or worse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from autokv.report import view
from autokv.report.format import MISSING, number
from autokv.tuning.objectives import TIE

MANY = 2.0
"""From this factor on a change is said as a factor, not as a percentage."""
NOISE = {view.BYTES: 0.005, "concurrent_requests": 0.005}
"""Shares below which a change is none, of figures that are counted; of others it is :data:`TIE`."""


@dataclass(frozen=True)
class Change:
    """By how much a figure differs, with the verdict in words, so that it is not told by colour alone."""

    amount: str
    mark: Literal["better", "worse", "same", ""] = ""
    """Empty where it cannot be compared."""


def change(metric: str, value: float | None, full: float | None, *, tie: bool = False) -> Change:
    """The change from ``full``, the 16-bit cache's figure; ``tie`` where it is known to be within noise."""
    if value is None or not full or not math.isfinite(value):
        return Change(MISSING)
    ratio = value / full
    if tie or abs(ratio - 1) <= NOISE.get(metric, TIE):
        return Change("", "same")
    return Change(factor(ratio), "better" if (ratio > 1) == view.maximized(metric) else "worse")


def factor(ratio: float) -> str:
    """``−75%``, ``+24%``, or ``3.9×`` for a change to twice as much and beyond."""
    if ratio >= MANY:
        return f"{number(ratio)}×"
    return f"{100 * (ratio - 1):+.0f}%".replace("-", "\N{MINUS SIGN}")


def points(difference: float) -> str:
    """A difference of two percentages: ``+12 points``."""
    return f"{difference:+.0f} points".replace("-", "\N{MINUS SIGN}")
