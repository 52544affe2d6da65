"""Synthesized traces have what was asked for; drawn ones have what was there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, generate, read_trace, resample
from autokv.workload.statistics import WINDOWS_S, statistics_of
from autokv.workload.synthesis import MAX_REQUESTS, RUNS, ArrivalProcess, Diurnal, Gamma, Lengths, Poisson

TRACES = Path(__file__).parents[3] / "shared/data/traces"
REAL = WorkloadTrace(
    "real",
    "test",
    np.cumsum(np.arange(50) % 11 * 1.0),
    np.arange(50) + 1000,
    np.arange(50) + 1,
)


@pytest.mark.parametrize("arrivals", [Poisson(5.0), Gamma(5.0, 2.0), Diurnal(5.0, 600.0, 0.9)], ids=type)
def test_what_was_asked_for(arrivals: ArrivalProcess) -> None:
    def make(seed: int) -> WorkloadTrace:
        return generate(
            requests=40_000,
            arrivals=arrivals,
            input_tokens=Lengths(700, 2000),
            output_tokens=Lengths(130, 450),
            seed=seed,
        )

    trace = make(1)
    summary = trace.summary()
    assert summary.requests_per_s == pytest.approx(5.0, rel=0.04)
    assert (summary.input_tokens["p50"], summary.input_tokens["p95"]) == pytest.approx((700, 2000), rel=0.04)
    assert (summary.output_tokens["p50"], summary.output_tokens["p95"]) == pytest.approx((130, 450), rel=0.04)
    assert abs(np.corrcoef(trace.input_tokens, trace.output_tokens)[0, 1]) < 0.02
    assert trace.arrival_s[0] == 0
    assert np.all(np.diff(trace.arrival_s) >= 0)
    again, other = make(1), make(2)
    assert all(np.array_equal(getattr(trace, name), getattr(again, name)) for name in ("arrival_s", "input_tokens"))
    assert not np.array_equal(trace.input_tokens, other.input_tokens)


def test_a_diurnal_rate_follows_its_sine() -> None:
    moments = Diurnal(20.0, 1000.0, 0.8).draw(np.random.default_rng(0), 200_000)
    # The first request comes about 0.05 s into the first period, which no phase below can tell.
    counts = np.histogram(moments[moments < 9000.0] % 1000.0, bins=20, range=(0, 1000))[0] / (9 * 50)
    middles = (np.arange(20) + 0.5) / 20
    assert counts.tolist() == pytest.approx((20 * (1 + 0.8 * np.sin(2 * np.pi * middles))).tolist(), abs=1.5)


def test_a_rate_may_fall_to_nothing() -> None:
    moments = Diurnal(1.0, 100.0, 1.0).draw(np.random.default_rng(0), 1000)
    assert np.isfinite(moments).all()
    assert np.all(np.diff(moments) >= 0)


@given(st.integers(1, 300), st.integers(0, 2**32))
def test_drawn_requests_are_real_ones_in_their_stretches(requests: int, seed: int) -> None:
    trace = resample(REAL, requests=requests, seed=seed)
    assert len(trace) == requests
    number = trace.input_tokens - 1000
    assert trace.output_tokens.tolist() == (number + 1).tolist()
    gaps = np.diff(trace.arrival_s)
    assert (gaps >= 0).all()
    follows = number[1:] == (number[:-1] + 1) % 50
    kept = follows & np.isclose(gaps, np.where(number[1:] > 0, number[1:] % 11, REAL.arrival_s[-1] / 49))
    # A stretch ends each time that a quarter of the trace has gone by, and nowhere else.
    stretch = REAL.arrival_s[-1] * 50 / 49 / RUNS
    assert (~kept).sum() <= trace.arrival_s[-1] / stretch + 1
    assert trace.arrival_s[0] == 0


class Breathing:
    """Poisson arrivals whose rate wanders, half of it forgotten in two minutes: as bursty there as real traffic."""

    def draw(self, rng: np.random.Generator, requests: int) -> np.ndarray:
        kept, state, rates = 0.5 ** (5 / 120), 0.0, []
        for _ in range(requests // 10):
            state = kept * state + (1 - kept**2) ** 0.5 * float(rng.standard_normal())
            rates.append(5.0 * np.exp(0.5 * state))
        counts = rng.poisson(5.0 * np.array(rates))
        places = np.repeat(np.arange(len(counts)), counts)
        moments = np.sort(5.0 * (places + rng.random(len(places))))[:requests]
        shifted: np.ndarray = moments - moments[0]
        return shifted


def dispersions(trace: WorkloadTrace) -> dict[float, float]:
    found = statistics_of(trace).arrivals
    assert found is not None
    return {burst.window_s: burst.dispersion for burst in found.bursts if burst.window_s <= 60}


def kept_bursts(real: WorkloadTrace, seed: int, tolerance: float) -> None:
    drawn = resample(real, requests=60_000, seed=seed)
    assert drawn.summary().requests_per_s == pytest.approx(real.summary().requests_per_s, rel=0.1)
    expected = dispersions(real)
    assert list(expected) == [window for window in WINDOWS_S if window <= 60]
    assert dispersions(drawn) == pytest.approx(expected, rel=tolerance)
    assert drawn.input_tokens.mean() == pytest.approx(real.input_tokens.mean(), rel=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bursts_of_seconds_and_of_minutes_are_kept(seed: int) -> None:
    real = generate(
        requests=20_000, arrivals=Breathing(), input_tokens=Lengths(100, 200), output_tokens=Lengths(10, 20), seed=seed
    )
    assert dispersions(real)[60.0] > 15, "where Poisson arrivals have 1"
    kept_bursts(real, seed, 0.2)


@pytest.mark.parametrize(
    "name", ["AzureLLMInferenceTrace_conv.csv", "AzureLLMInferenceTrace_code.csv", "mooncake_conversation.jsonl"]
)
@pytest.mark.skipif(not TRACES.is_dir(), reason="the traces are not here")
def test_the_bursts_of_real_traffic_are_kept(name: str) -> None:
    kept_bursts(read_trace(TRACES / name), 0, 0.25)


def test_a_long_draw_has_the_rate_and_the_lengths_of_its_trace() -> None:
    trace = resample(REAL, requests=100_000)
    assert trace.summary().requests_per_s == pytest.approx(REAL.summary().requests_per_s, rel=0.05)
    assert trace.input_tokens.mean() == pytest.approx(REAL.input_tokens.mean(), rel=0.001)
    timed = resample(REAL, requests=100_000, arrivals=Poisson(7.0))
    assert timed.summary().requests_per_s == pytest.approx(7.0, rel=0.02)
    assert timed.input_tokens.tolist() == trace.input_tokens.tolist()


def test_one_request_can_be_drawn_from() -> None:
    one = WorkloadTrace("one", "test", np.zeros(1), np.array([5]), np.array([6]))
    trace = resample(one, requests=3)
    assert (trace.arrival_s.tolist(), trace.input_tokens.tolist()) == ([0, 0, 0], [5, 5, 5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poisson(0.0), "rate: is 0.0"),
        (lambda: Gamma(1.0, float("inf")), "cv: is inf"),
        (lambda: Diurnal(1.0, -5.0), "period: is -5.0"),
        (lambda: Diurnal(1.0, 5.0, 1.5), "amplitude: is 1.5"),
        (lambda: Lengths(100, 50), "ascending"),
        (lambda: Lengths(float("nan"), 50), "ascending"),
        (lambda: Lengths(10, 1e9), "10,000,000"),
        (lambda: resample(REAL, requests=0), "requests: is 0"),
        (lambda: resample(REAL, requests=MAX_REQUESTS + 1), "give 1 to 20,000,000"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        make()
