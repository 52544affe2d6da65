"""Parts of traces: what stays is what was asked for, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import PrefixBlocks, WorkloadTrace, generate, transform
from autokv.workload.synthesis import Lengths, Poisson


def trace_of(requests: int) -> WorkloadTrace:
    """Every column tells which request it is of."""
    number = np.arange(requests)
    return WorkloadTrace(
        "t",
        "test",
        np.arange(requests, dtype=np.float64) * 2.0,
        number + 100,
        number % 7 + 1,
        prefixes=PrefixBlocks(64, np.arange(requests + 1) * 2, np.arange(2 * requests)),
        session=number // 5,
        turn=number % 5 + 1,
        delay_s=np.where(number % 5, number / 10, np.nan),
    )


TRACE = trace_of(100)


def numbers(trace: WorkloadTrace) -> list[int]:
    """Which requests of :data:`TRACE` these are; every column must agree."""
    found = trace.input_tokens - 100
    assert trace.session is not None
    assert trace.turn is not None
    assert trace.delay_s is not None
    assert trace.prefixes is not None
    assert trace.output_tokens.tolist() == (found % 7 + 1).tolist()
    assert trace.session.tolist() == (found // 5).tolist()
    assert trace.turn.tolist() == (found % 5 + 1).tolist()
    assert trace.delay_s.tolist() == pytest.approx(np.where(found % 5, found / 10, np.nan).tolist(), nan_ok=True)
    assert [trace.prefixes.of(place).tolist() for place in range(len(trace))] == [
        [2 * each, 2 * each + 1] for each in found.tolist()
    ]
    assert trace.arrival_s[0] == 0
    assert trace.arrival_s.tolist() == pytest.approx((2.0 * (found - found[0])).tolist())
    return list(map(int, found))


@given(st.floats(0, 250), st.floats(0, 250))
def test_a_window_is_what_arrives_in_it(start: float, end: float) -> None:
    expected = [number for number in range(100) if start <= 2 * number < end]
    if expected:
        assert numbers(transform.window(TRACE, start, end)) == expected
    else:
        with pytest.raises(WorkloadError, match="no request arrives"):
            transform.window(TRACE, start, end)


@given(st.integers(1, 200))
def test_the_first_requests(requests: int) -> None:
    assert numbers(transform.head(TRACE, requests)) == list(range(min(requests, 100)))


def test_requests_that_are_too_long_go() -> None:
    assert numbers(transform.at_most(TRACE, input_tokens=110, output_tokens=3)) == [0, 1, 2, 7, 8, 9]
    with pytest.raises(WorkloadError, match="allow more tokens"):
        transform.at_most(TRACE, input_tokens=99)


@given(st.integers(0, 2**32))
def test_a_sample_keeps_conversations_whole(seed: int) -> None:
    found = numbers(transform.sample(TRACE, 0.5, seed))
    assert found == numbers(transform.sample(TRACE, 0.5, seed))
    sessions = {number // 5 for number in found}
    assert found == [number for number in range(100) if number // 5 in sessions]


def test_a_sample_has_its_share() -> None:
    trace = generate(
        requests=50_000, arrivals=Poisson(1.0), input_tokens=Lengths(10, 20), output_tokens=Lengths(10, 20)
    )
    assert len(transform.sample(trace, 0.2)) == pytest.approx(10_000, rel=0.05)
    assert len(transform.sample(trace, 1.0)) == 50_000
    assert len(transform.sample(trace, 0.2, 1)) != len(transform.sample(trace, 0.2, 2))


@given(st.floats(1e-3, 1e3))
def test_rates_scale_and_nothing_else(factor: float) -> None:
    faster = transform.scale_rate(TRACE, factor)
    rate = TRACE.summary().requests_per_s
    assert rate is not None
    assert TRACE.delay_s is not None
    assert faster.delay_s is not None
    assert faster.summary().requests_per_s == pytest.approx(rate * factor)
    assert transform.with_rate(TRACE, factor).summary().requests_per_s == pytest.approx(factor)
    back = transform.scale_rate(faster, 1 / factor)
    assert back.arrival_s.tolist() == pytest.approx(TRACE.arrival_s.tolist())
    assert (faster.delay_s * factor).tolist() == pytest.approx(TRACE.delay_s.tolist(), nan_ok=True)
    assert (back.input_tokens is TRACE.input_tokens, len(back)) == (True, 100)


def test_a_trace_without_arrivals_gets_poisson_ones() -> None:
    still = generate(
        requests=20_000, arrivals=Poisson(1.0), input_tokens=Lengths(10, 20), output_tokens=Lengths(10, 20)
    )
    still = WorkloadTrace("t", "test", np.zeros(len(still)), still.input_tokens, still.output_tokens)
    with pytest.raises(WorkloadError, match="has no arrivals to scale"):
        transform.scale_rate(still, 2.0)
    timed = transform.with_rate(still, 3.0, seed=4)
    gaps = np.diff(timed.arrival_s)
    assert timed.arrival_s[0] == 0
    assert timed.summary().requests_per_s == pytest.approx(3.0, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.03)
    assert timed.arrival_s.tolist() == transform.with_rate(still, 3.0, seed=4).arrival_s.tolist()


@given(st.floats(0.001, 100))
def test_lengths_scale_with_their_blocks(factor: float) -> None:
    scaled = transform.scale_lengths(TRACE, factor)
    for before, after in ((TRACE.input_tokens, scaled.input_tokens), (TRACE.output_tokens, scaled.output_tokens)):
        assert after.dtype == np.int64
        assert after.min() >= 1
        assert np.all((np.abs(after - before * factor) <= 0.5) | (after == 1))
    assert scaled.prefixes is not None
    assert TRACE.prefixes is not None
    assert scaled.prefixes.block_tokens == max(1, round(64 * factor))
    assert scaled.prefixes.hashes is TRACE.prefixes.hashes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: transform.head(TRACE, 0), "ask for at least 1"),
        (lambda: transform.sample(TRACE, 0.0), "share: is 0.0"),
        (lambda: transform.sample(TRACE, float("nan")), "share: is nan"),
        (lambda: transform.sample(TRACE, 1e-12), "take a larger share"),
        (lambda: transform.scale_rate(TRACE, float("inf")), "rate scale: is inf"),
        (lambda: transform.scale_rate(TRACE, 1e-200), "give one nearer to 1"),
        (lambda: transform.scale_rate(TRACE, 1e300), "give one nearer to 1"),
        (lambda: transform.with_rate(TRACE, -1.0), "rate: is -1.0"),
        (lambda: transform.scale_lengths(TRACE, 1e9), "longer than 10,000,000 tokens"),
        (lambda: transform.scale_lengths(TRACE, float("nan")), "length scale: is nan"),
    ],
)
def test_nonsense_is_refused_in_one_line(change: Callable[[], object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message) as caught:
        change()
    assert "\n" not in str(caught.value)


def test_copies_share_neither_conversations_nor_prefixes() -> None:
    offsets, hashes = np.array([0, 2, 3]), np.array([7, 9, 7])
    trace = WorkloadTrace(
        "two",
        "test",
        np.array([0.0, 1.0]),
        np.array([20, 10]),
        np.array([3, 4]),
        prefixes=PrefixBlocks(16, offsets, hashes),
        session=np.array([5, 5]),
        turn=np.array([1, 2]),
    )
    found = transform.repeated(trace, 3)
    assert found.arrival_s.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert found.session is not None
    assert found.prefixes is not None
    assert [found.session[:3].tolist(), len(set(found.session.tolist()))] == [found.session[3:].tolist(), 3]
    firsts = [found.prefixes.of(place) for place in range(3)]
    seconds = [found.prefixes.of(place) for place in range(3, 6)]
    for place, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        assert first[0] == second[0] != first[1]
        assert not set(first.tolist()) & {one for other in firsts[place + 1 :] for one in other.tolist()}
