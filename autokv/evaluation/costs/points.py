"""Where times are measured, and how the points between and beyond are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BETWEEN = 4
"""Points drawn from one measured point to the next of a curve that bends."""


def ladder(first: int, last: int, ratio: float = 2.0) -> list[int]:
    """Ascending sizes ``first``, ``first * ratio`` and so on below ``last``, and ``last``.

    Ladders of one ``first`` and ``ratio`` share their rungs, whatever their ends.
    """
    sizes, size = [last], float(first)
    while round(size) < last:
        sizes.append(round(size))
        size *= ratio
    return sorted(set(sizes))


def bent(points: Sequence[tuple[int, float]], last: int) -> list[tuple[float, float]]:
    """``(size, seconds)`` with points between them by power laws, and on to ``last`` by the last of these.

    Straight lines between points that are a factor of two apart overstate a quadratic by up to an eighth. Beyond the
    last point the power is between that of a line and that of a square.
    """
    drawn: list[tuple[float, float]] = []
    power = 2.0
    for (x0, y0), (x1, y1) in pairwise(points):
        power = math.log(y1 / y0) / math.log(x1 / x0) if 0 < y0 < y1 else 0.0
        drawn += [(x, y0 * (x / x0) ** power) for x in (x0 * (x1 / x0) ** (at / BETWEEN) for at in range(BETWEEN))]
    x0, y0 = points[-1]
    drawn.append((float(x0), y0))
    if last > x0:
        power = min(max(power, 1.0), 2.0)
        drawn += [(float(x), y0 * (x / x0) ** power) for x in ladder(x0, last, 2 ** (1 / BETWEEN))[1:]]
    return drawn
