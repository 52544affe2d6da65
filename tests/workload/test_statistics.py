"""Figures of traces against naive counts, and against what is known of their processes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.workload import PrefixBlocks, RejectedRows, WorkloadTrace, generate, mean_concurrency, statistics_of
from autokv.workload.series import BINS, in_flight, mean_in_flight, over_length, over_time
from autokv.workload.synthesis import Gamma, Lengths, Poisson

generated = partial(generate, input_tokens=Lengths(700, 2000), output_tokens=Lengths(130, 450))
POISSON = generated(requests=20_000, arrivals=Poisson(4.0))
nanoseconds = st.integers(0, 10**14) | st.integers(0, 20)
arrivals = (
    st.lists(nanoseconds, min_size=2, max_size=40)
    .map(lambda found: [each / 1e9 for each in sorted(found)])
    .filter(lambda found: found[0] < found[-1])
)


def trace_of(moments: list[float], outputs: list[int] | None = None) -> WorkloadTrace:
    moment = np.array(moments) - moments[0]
    tokens = np.array(outputs or [20] * len(moments), dtype=np.int64)
    return WorkloadTrace("t", "test", moment, np.full(len(moments), 100, dtype=np.int64), tokens)


def test_poisson_arrivals_are_neither_bursty_nor_even() -> None:
    found = statistics_of(POISSON).arrivals
    assert found is not None
    assert found.interarrival_cv == pytest.approx(1, abs=0.03)
    assert [burst.window_s for burst in found.bursts] == [1, 10, 60]
    assert [burst.dispersion for burst in found.bursts] == pytest.approx([1, 1, 1], abs=0.3)


@pytest.mark.parametrize("cv", [0.3, 3.0])
def test_gamma_arrivals_have_the_variation_asked_for(cv: float) -> None:
    found = statistics_of(generated(requests=40_000, arrivals=Gamma(4.0, cv))).arrivals
    assert found is not None
    assert found.interarrival_cv == pytest.approx(cv, rel=0.05)
    assert found.requests_per_s == pytest.approx(4.0, rel=0.06)
    # Counts of a renewal process over long windows disperse by the square of the variation (Cox, 1962).
    assert found.bursts[2].dispersion == pytest.approx(cv**2, rel=0.35)


def test_counts_in_windows() -> None:
    moments = [0.0, 0.1, 0.2, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.7]
    found = statistics_of(trace_of(moments)).arrivals
    assert found is not None
    counts = np.array([3, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    assert [burst.window_s for burst in found.bursts] == [1]
    assert found.bursts[0].dispersion == pytest.approx(counts.var() / counts.mean())
    assert found.bursts[0].peak_to_mean == pytest.approx(3 / 1.2)


@given(arrivals, st.data())
def test_requests_in_flight_are_those_that_have_come_and_not_gone(moments: list[float], data: st.DataObject) -> None:
    outputs = data.draw(st.lists(st.integers(1, 5000), min_size=len(moments), max_size=len(moments)))
    trace = trace_of(moments, outputs)
    times, counts = in_flight(trace)
    ends = trace.arrival_s + trace.output_tokens / 20.0
    for time, count in zip(times[:-1], counts[:-1], strict=True):
        if (times == time).sum() == 1:
            assert count == ((trace.arrival_s <= time) & (time < ends)).sum()
    assert counts[-1] == 0
    assert counts.min() >= 0
    edges = np.array([0.0, float(ends.max())])
    assert mean_in_flight(trace, edges)[0] * edges[1] == pytest.approx((trace.output_tokens / 20.0).sum())


def test_concurrency_agrees_with_littles_law() -> None:
    found = statistics_of(POISSON).concurrency
    assert found is not None
    assert found.mean == pytest.approx(mean_concurrency(POISSON), rel=0.02)
    assert found.mean < found.p95 < found.peak
    times, counts = in_flight(POISSON)
    moments = np.linspace(0, POISSON.arrival_s[-1], 50_000)
    sampled = counts[np.searchsorted(times, moments, side="right") - 1]
    assert found.p95 == pytest.approx(np.percentile(sampled, 95), abs=1)


def test_sessions() -> None:
    trace = replace(trace_of([0, 10, 15, 30, 50, 51]), session=np.array([1, 1, 2, 1, 2, 3]))
    found = statistics_of(trace).sessions
    assert found is not None
    assert (found.count, found.mean_turns, found.max_turns, found.later_turns) == (3, 2.0, 3, 0.5)
    assert found.median_gap_s == 20.0  # gaps of 10, 20 and 35 seconds


def test_reuse_names_sizes_up_to_one_that_holds_everything() -> None:
    trace = trace_of([0, 1, 2, 3])
    hashes = np.array([0, 1, 0, 2, 0, 1, 0, 2], dtype=np.int64)
    trace = replace(trace, prefixes=PrefixBlocks(50, np.arange(5) * 2, hashes))
    found = statistics_of(trace).reuse
    assert found is not None
    assert (found.share, found.requests) == (0.625, 0.75)
    assert [tokens for tokens, _ in found.caches] == [50, 200]
    assert found.caches[-1][1] == found.share


def test_a_trace_without_arrivals_has_lengths_and_nothing_of_time() -> None:
    trace = replace(POISSON, arrival_s=np.zeros(len(POISSON)), rejected=RejectedRows(2, (3, 4), "bad"))
    found = statistics_of(trace)
    assert (found.arrivals, found.concurrency, found.sessions, found.reuse) == (None, None, None, None)
    assert found.input_tokens["p50"] == pytest.approx(700, rel=0.05)
    assert over_time(trace) is None
    document = json.loads(json.dumps(found.to_dict()))
    assert document["rejected"] == {"count": 2, "lines": [3, 4], "reason": "bad"}


@given(arrivals)
def test_series_lose_nothing_that_lies_within(moments: list[float]) -> None:
    trace = trace_of(moments)
    found = over_time(trace)
    assert found is not None
    assert 1 <= len(found.start_s) <= BINS
    end = found.start_s[-1] + found.step_s
    assert end <= trace.arrival_s[-1] * (1 + 1e-12)
    within = int((trace.arrival_s < len(found.start_s) * found.step_s).sum())
    assert found.requests_per_s.sum() * found.step_s == pytest.approx(within)
    assert found.input_tokens_per_s.sum() * found.step_s == pytest.approx(100 * within)
    arrivals = statistics_of(trace).arrivals
    assert arrivals is not None
    assert arrivals.requests_per_s > 0


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=50))
def test_every_length_has_its_bin(tokens: list[int]) -> None:
    lengths = np.array(tokens, dtype=np.int64)
    found = over_length(WorkloadTrace("t", "test", np.zeros(len(tokens)), lengths, np.ones_like(lengths)))
    assert found.input_share.sum() == pytest.approx(1)
    assert found.output_share[0] == 1
    middle = found.tokens[np.flatnonzero(found.input_share)]
    assert all(np.min(np.abs(np.log2(middle / one))) <= 0.125 + 1e-9 for one in tokens)
