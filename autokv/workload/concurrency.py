"""How many requests a trace keeps in flight at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autokv.workload.trace import WorkloadTrace

TOKENS_PER_SECOND = 20.0
"""Output tokens of one request per second: as fast as anyone reads."""


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
