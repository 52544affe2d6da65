"""Processes by which synthesized requests arrive; each draws all of a trace's arrivals at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autokv.errors import WorkloadError

GRID = 8192
"""Points of a period at which the expected arrivals are known; between them they are interpolated."""


class ArrivalProcess(Protocol):
    """Draws arrivals."""

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        """Ascending seconds, float64 [requests], from 0 on."""


@dataclass(frozen=True)
class Poisson:
    """Independent requests.

    Raises:
        WorkloadError: the rate is not a positive number.
    """

    requests_per_s: float

    def __post_init__(self) -> None:
        check_positive(self.requests_per_s, "rate")

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        return _from_gaps(rng.exponential(1 / self.requests_per_s, requests))


@dataclass(frozen=True)
class Gamma:
    """Gaps of a gamma distribution: burstier than Poisson for a ``cv`` above 1, more even below (BurstGPT, 2024).

    Raises:
        WorkloadError: the rate or the ``cv`` is not a positive number.
    """

    requests_per_s: float
    cv: float
    """Standard deviation of the gaps over their mean."""

    def __post_init__(self) -> None:
        check_positive(self.requests_per_s, "rate")
        check_positive(self.cv, "cv")

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        shape = self.cv**-2
        return _from_gaps(rng.gamma(shape, 1 / (shape * self.requests_per_s), requests))


@dataclass(frozen=True)
class Diurnal:
    """Poisson arrivals whose rate swings as a sine, from its mean at the start upwards.

    Raises:
        WorkloadError: the rate or the period is not a positive number, or the amplitude not between 0 and 1.
    """

    requests_per_s: float
    """Mean over a period."""
    period_s: float = 86400.0
    amplitude: float = 0.5
    """Share of the mean by which the rate rises and falls."""

    def __post_init__(self) -> None:
        check_positive(self.requests_per_s, "rate")
        check_positive(self.period_s, "period")
        if not 0 <= self.amplitude <= 1:
            raise WorkloadError(f"is {self.amplitude}", field="amplitude", remedy="give a number from 0 to 1")

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        """See :class:`ArrivalProcess`.

        Arrivals of rate 1 are drawn in units of expected arrivals, and taken back to seconds (Çınlar, 1975).
        """
        phase = np.linspace(0, 1, GRID + 1)
        swing = self.amplitude * (1 - np.cos(2 * math.pi * phase)) / (2 * math.pi)
        expected = self.requests_per_s * self.period_s * (phase + swing)
        whole, rest = np.divmod(np.cumsum(rng.exponential(1.0, requests)), expected[-1])
        seconds = self.period_s * (whole + np.interp(rest, expected, phase))
        return seconds - seconds[:1]


def _from_gaps(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    moments: NDArray[np.float64] = np.cumsum(gaps)
    return moments - moments[:1]


def check_positive(value: float, field: str) -> None:
    """Raise a WorkloadError for what is no positive number."""
    if not 0 < value < math.inf:
        raise WorkloadError(f"is {value}", field=field, remedy="give a positive number")
