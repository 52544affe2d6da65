"""Summaries and context lengths, against naive definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, context_lengths


def trace_of(inputs: list[int], arrivals: list[float] | None = None) -> WorkloadTrace:
    arrival = np.array(arrivals if arrivals else np.arange(len(inputs)), dtype=np.float64)
    tokens = np.array(inputs, dtype=np.int64)
    return WorkloadTrace("t", "test", arrival, tokens, tokens * 2)


def naive_quantile(values: list[int], probability: float) -> int:
    """The smallest value with at least that share of the values at or below it."""
    ordered = sorted(values)
    return next(value for value in ordered if sum(other <= value for other in ordered) >= probability * len(ordered))


def test_summary() -> None:
    summary = trace_of(list(range(1, 102)), [index / 2 for index in range(101)]).summary()
    assert (summary.requests, summary.duration_s, summary.requests_per_s) == (101, 50.0, 101 / 50)
    assert summary.input_tokens == pytest.approx({"p50": 51, "p90": 91, "p95": 96, "p99": 100})
    assert summary.output_tokens == pytest.approx({"p50": 102, "p90": 182, "p95": 192, "p99": 200})


def test_a_burst_has_no_rate() -> None:
    assert trace_of([5, 6], [0.0, 0.0]).summary().requests_per_s is None


def test_lengths_by_hand() -> None:
    plan = context_lengths(trace_of([10, 100, 1000, 10_000]), samples=4, cap=5000)
    assert plan.lengths == (64, 96, 992, 4992)
    assert (plan.cap, plan.beyond_cap) == (5000, 0.25)


@given(
    st.lists(st.integers(1, 20_000), min_size=1, max_size=30),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(16, 9000),
)
def test_lengths_against_a_naive_quantile(inputs: list[int], samples: int, cap: int) -> None:
    plan = context_lengths(trace_of(inputs), samples, cap)
    expected = []
    for index in range(samples):
        length = naive_quantile(inputs, (index + 0.5) / samples)
        expected.append(math.floor(min(max(length, 64), cap) / 16) * 16)
    assert list(plan.lengths) == expected
    assert plan.beyond_cap == pytest.approx(sum(length > cap for length in inputs) / len(inputs))


@pytest.mark.parametrize(("samples", "cap", "field"), [(0, 100, "samples"), (4, 15, "max_context_tokens")])
def test_what_makes_no_plan(samples: int, cap: int, field: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        context_lengths(trace_of([5]), samples, cap)
    assert caught.value.field == field
