"""How many requests a trace keeps in flight at once."""

from __future__ import annotations

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
