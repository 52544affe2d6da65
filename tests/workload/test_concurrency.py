"""Concurrency against a count of who is in flight when."""

from __future__ import annotations

import numpy as np
import pytest

from autokv.workload import WorkloadTrace, mean_concurrency, synthesize


def trace_of(arrivals: list[float], outputs: list[int]) -> WorkloadTrace:
    tokens = np.array(outputs, dtype=np.int64)
    return WorkloadTrace("t", "test", np.array(arrivals, dtype=np.float64), tokens, tokens)


def test_it_is_the_mean_of_those_in_flight() -> None:
    trace = synthesize(requests=4000, seed=1, requests_per_s=0.7, input_tokens=(10, 20), output_tokens=(150, 400))
    ends = trace.arrival_s + trace.output_tokens / 20.0
    moments = np.linspace(0, trace.arrival_s[-1], 20_000)
    in_flight = ((trace.arrival_s <= moments[:, None]) & (moments[:, None] < ends)).sum(axis=1)
    assert mean_concurrency(trace) == pytest.approx(in_flight.mean(), rel=0.02)


def test_half_as_fast_is_twice_as_many() -> None:
    trace = trace_of([float(second) for second in range(100)], [100] * 100)
    assert mean_concurrency(trace, 10.0) == pytest.approx(2 * mean_concurrency(trace, 20.0))


@pytest.mark.parametrize(
    ("arrivals", "outputs", "expected"),
    [
        ([0.0], [500], 1.0),
        ([0.0, 0.0, 0.0], [1, 1, 1], 3.0),
        ([0.0, 1000.0], [20, 20], 1.0),
        ([0.0, 1.0], [10_000, 10_000], 2.0),
    ],
    ids=["one request", "all at once", "never two", "never more than there are"],
)
def test_the_ends(arrivals: list[float], outputs: list[int], expected: float) -> None:
    assert mean_concurrency(trace_of(arrivals, outputs)) == expected
