"""A trace over time and over lengths, in as many points as a picture shows; how many requests it keeps in flight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autokv.workload.trace import WorkloadTrace

TOKENS_PER_SECOND = 20.0
"""Output tokens of one request per second: as fast as anyone reads."""
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


def mean_concurrency(trace: WorkloadTrace, tokens_per_second: float = TOKENS_PER_SECOND) -> float:
    """Mean number of requests that are being answered, by Little's law (1961): arrivals a second times seconds each.

    A request takes its output tokens over ``tokens_per_second``. At least 1, and never more than the trace has
    requests, which is also the answer where all of them arrive at once.
    """
    rate = trace.summary().requests_per_s
    requests = float(len(trace))
    if rate is None:
        return requests
    return min(max(1.0, rate * float(trace.output_tokens.mean()) / tokens_per_second), requests)


def in_flight(
    trace: WorkloadTrace, tokens_per_second: float = TOKENS_PER_SECOND
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Requests that are being answered, as steps: from each time on, in ascending seconds, so many.

    Every request is taken to last its output tokens over ``tokens_per_second``, with nobody waiting for anybody.
    """
    ends = trace.arrival_s + trace.output_tokens / tokens_per_second
    # Who ends when another comes is gone by then.
    times = np.concatenate([ends, trace.arrival_s])
    change = np.repeat(np.array([-1, 1]), len(trace))
    order = np.argsort(times, kind="stable")
    return times[order], np.cumsum(change[order])


def mean_in_flight(
    trace: WorkloadTrace, edges_s: NDArray[np.float64], tokens_per_second: float = TOKENS_PER_SECOND
) -> NDArray[np.float64]:
    """Mean of :func:`in_flight` between neighbouring ``edges_s`` (ascending seconds), float64 [edges - 1]."""
    ends = np.sort(trace.arrival_s + trace.output_tokens / tokens_per_second)
    spent = _elapsed_since(trace.arrival_s, edges_s) - _elapsed_since(ends, edges_s)
    means: NDArray[np.float64] = np.diff(spent) / np.diff(edges_s)
    return means


def _elapsed_since(moments: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """At each time of ``now``, the seconds since every earlier one of the sorted ``moments``, summed."""
    passed = np.searchsorted(moments, now, side="right")
    sums = np.concatenate([[0.0], np.cumsum(moments)])
    elapsed: NDArray[np.float64] = passed * now - sums[passed]
    return elapsed
