"""A trace over time and over lengths, in as many points as a picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autokv.workload.concurrency import TOKENS_PER_SECOND, mean_in_flight
from autokv.workload.trace import WorkloadTrace

BINS = 180
"""Most stretches of time that are told apart."""
STEPS_S = tuple(
    step * unit
    for unit, steps in (
        (1e-3, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1.0, (1, 2, 5, 10, 15, 30)),
        (60.0, (1, 2, 5, 10, 15, 30)),
        (3600.0, (1, 2, 3, 6, 12)),
        (86400.0, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    )
    for step in steps
)
"""Lengths of time that a person would choose."""
PER_OCTAVE = 4
"""Bins of lengths for each doubling."""


@dataclass(frozen=True, eq=False)
class OverTime:
    """Means over stretches of ``step_s``; all of shape [stretches]."""

    step_s: float
    start_s: NDArray[np.float64]
    """Where each stretch begins."""
    requests_per_s: NDArray[np.float64]
    input_tokens_per_s: NDArray[np.float64]
    output_tokens_per_s: NDArray[np.float64]
    in_flight: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OverLength:
    """Shares of the requests by length; bins grow by the same factor, shape [bins]."""

    tokens: NDArray[np.float64]
    """The middle of each bin."""
    input_share: NDArray[np.float64]
    output_share: NDArray[np.float64]


def over_time(trace: WorkloadTrace, tokens_per_second: float = TOKENS_PER_SECOND) -> OverTime | None:
    """The whole stretches of time between the first and the last arrival; ``None`` without arrivals."""
    if not trace.timed:
        return None
    duration = float(trace.arrival_s[-1])
    step = next((step for step in STEPS_S if duration <= step * BINS), duration / BINS)
    bins = max(1, int(duration / step))
    step = min(step, duration)
    edges: NDArray[np.float64] = np.arange(bins + 1, dtype=np.float64) * step
    within = trace.arrival_s < edges[-1]
    places = np.minimum((trace.arrival_s[within] / step).astype(np.int64), bins - 1)

    def rate(amounts: NDArray[np.int64] | None) -> NDArray[np.float64]:
        weights = None if amounts is None else amounts[within]
        sums: NDArray[np.float64] = np.bincount(places, weights=weights, minlength=bins) / step
        return sums

    return OverTime(
        step_s=step,
        start_s=edges[:-1],
        requests_per_s=rate(None),
        input_tokens_per_s=rate(trace.input_tokens),
        output_tokens_per_s=rate(trace.output_tokens),
        in_flight=mean_in_flight(trace, edges, tokens_per_second),
    )


def over_length(trace: WorkloadTrace) -> OverLength:
    """How many requests have how many tokens."""
    longest = max(trace.input_tokens.max(), trace.output_tokens.max())
    bins = int(np.log2(longest) * PER_OCTAVE) + 1
    inputs, outputs = (
        np.bincount((np.log2(tokens) * PER_OCTAVE).astype(np.int64), minlength=bins) / len(trace)
        for tokens in (trace.input_tokens, trace.output_tokens)
    )
    return OverLength(2 ** ((np.arange(bins) + 0.5) / PER_OCTAVE), inputs, outputs)
