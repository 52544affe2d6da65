"""``WorkloadTrace``: the traffic that a configuration is to serve, one row a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class RejectedRows:
    """Rows of the file that could not be read and were left out."""

    count: int = 0
    lines: tuple[int, ...] = ()
    """Line numbers, from 1, of the first few."""
    reason: str = ""
    """What is wrong with the first."""


@dataclass(frozen=True)
class TraceSummary:
    """A trace in a few figures; percentiles are keyed ``p50`` to ``p99``, in tokens."""

    requests: int
    duration_s: float
    requests_per_s: float | None
    """``None`` where all requests arrive at once."""
    input_tokens: Mapping[str, float]
    output_tokens: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class WorkloadTrace:
    """Requests in order of arrival.

    ``arrival_s`` is float64 in seconds and starts at 0; ``input_tokens`` and ``output_tokens`` are int64, at least 1.
    All three have the shape [requests].
    """

    name: str
    format: str
    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    rejected: RejectedRows = RejectedRows()

    def __len__(self) -> int:
        return len(self.arrival_s)

    def summary(self) -> TraceSummary:
        """Requests, seconds, rate, and percentiles of the tokens (linear interpolation)."""
        duration = float(self.arrival_s[-1])
        return TraceSummary(
            requests=len(self),
            duration_s=duration,
            requests_per_s=len(self) / duration if duration else None,
            input_tokens=_percentiles(self.input_tokens),
            output_tokens=_percentiles(self.output_tokens),
        )


def _percentiles(tokens: NDArray[np.int64]) -> dict[str, float]:
    values = np.percentile(tokens, PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(PERCENTILES, values, strict=True)}
