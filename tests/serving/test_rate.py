"""The maximum sustainable rate, against queues whose answer is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.errors import RequestError
from autokv.serving import SLO, CostModel, Curve, Grid, Outcome, SequenceBytes, ServingOptions, Timeline, simulate
from autokv.serving.closed_loop import open_loop
from autokv.serving.comparison import SustainableRate
from autokv.serving.rate import REQUESTS, max_sustainable_rate
from autokv.workload import WorkloadTrace, synthesize
from autokv.workload.transform import repeated, with_rate

SERVICE = 0.1


def trace(requests: int = 2000, seed: int = 1) -> WorkloadTrace:
    return synthesize(requests=requests, seed=seed, requests_per_s=3.0, input_tokens=(100, 200), output_tokens=(20, 50))


def one_by_one(requests: WorkloadTrace, service: float = SERVICE) -> Outcome:
    """A single server, first come, first served: Lindley's recursion (1952)."""
    finish = np.zeros(len(requests))
    now = 0.0
    for index, arrival in enumerate(requests.arrival_s):
        now = max(now, float(arrival)) + service
        finish[index] = now
    nothing, empty = np.zeros(len(requests), dtype=np.int64), np.zeros(0, dtype=np.int64)
    return Outcome(
        arrival_s=requests.arrival_s,
        first_token_s=finish,
        finish_s=finish,
        input_tokens=requests.input_tokens,
        output_tokens=requests.output_tokens,
        preemptions=nothing,
        cached_tokens=nothing,
        iterations=len(requests),
        busy_s=len(requests) * service,
        capacity_bytes=1.0,
        peak_kv_bytes=1.0,
        max_running=1,
        timeline=Timeline(empty.astype(np.float64), empty, empty, empty.astype(np.float64)),
    )


def test_without_an_slo_it_is_the_capacity_of_the_server() -> None:
    found = max_sustainable_rate(trace(), one_by_one)
    assert found.requests_per_s == pytest.approx(1 / SERVICE)
    assert found.simulations == 1
    assert not found.limited_by_slo


def test_with_an_slo_it_is_the_rate_of_the_queue_with_that_quantile() -> None:
    # M/D/1 with a load of 0.73: 90% of the requests wait less than about three services (Erlang, 1909).
    limit = SLO(ttft_ms=1e3 * 4 * SERVICE)
    found = max_sustainable_rate(trace(), one_by_one, limit)
    assert found.limited_by_slo
    assert found.attainment is not None
    assert found.attainment >= 0.9
    assert one_by_one(with_rate(trace(), found.requests_per_s * 1.02)).good(limit).mean() < 0.9
    assert found.requests_per_s * SERVICE == pytest.approx(0.75, abs=0.06)


def test_an_slo_below_what_a_lone_request_takes_is_never_kept() -> None:
    found = max_sustainable_rate(trace(200), one_by_one, SLO(ttft_ms=50))
    assert found.requests_per_s == 0
    assert found.attainment == 0
    assert found.simulations <= 20


def test_a_loose_slo_does_not_lift_the_rate_above_capacity() -> None:
    found = max_sustainable_rate(trace(50), one_by_one, SLO(ttft_ms=1e9))
    assert found.requests_per_s == found.capacity_per_s == pytest.approx(1 / SERVICE)


def test_it_is_tried_on_a_bounded_number_of_requests_whatever_the_rate_of_the_trace() -> None:
    seen: list[int] = []

    def serve(requests: WorkloadTrace) -> Outcome:
        seen.append(len(requests))
        return one_by_one(requests)

    long = trace(REQUESTS + 500)
    limit = SLO(ttft_ms=400)
    found = max_sustainable_rate(long, serve, limit)
    assert set(seen) == {REQUESTS}
    assert found.simulations == len(seen) <= 20
    slower = replace(long, arrival_s=long.arrival_s * 7)
    assert max_sustainable_rate(slower, one_by_one, limit).requests_per_s == pytest.approx(found.requests_per_s)


def test_a_beginning_unlike_the_rest_does_not_decide() -> None:
    whole = trace(4 * REQUESTS)
    place = np.arange(len(whole))
    # The first quarter asks for a tenth of the work; a server takes a millisecond for ten tokens of a prompt.
    odd = replace(whole, input_tokens=np.where(place < REQUESTS, whole.input_tokens // 10, whole.input_tokens))

    def serve(requests: WorkloadTrace) -> Outcome:
        finish = np.zeros(len(requests))
        now = 0.0
        for index, arrival in enumerate(requests.arrival_s.tolist()):
            now = max(now, arrival) + 1e-4 * int(requests.input_tokens[index])
            finish[index] = now
        return replace(one_by_one(requests), first_token_s=finish, finish_s=finish)

    limit = SLO(ttft_ms=50)
    found = max_sustainable_rate(odd, serve, limit)
    assert found.requests == REQUESTS
    assert f"{REQUESTS:,} of {4 * REQUESTS:,} requests" in found.sample
    assert found.capacity_per_s == pytest.approx(1e4 / odd.input_tokens.mean(), rel=0.05)
    assert serve(with_rate(odd, 0.93 * found.requests_per_s)).good(limit).mean() >= 0.9
    assert serve(with_rate(odd, 1.07 * found.requests_per_s)).good(limit).mean() < 0.9
    assert max_sustainable_rate(whole.take(np.arange(500)), serve).sample == ""


def test_in_a_closed_loop_the_rate_is_the_one_at_which_requests_really_come() -> None:
    # One conversation of many turns, each of which takes a second: no rate above one request a second can be offered.
    curve = Curve((1.0, 4096.0), (0.5, 0.5))
    nothing = Curve((1.0,), (0.0,))
    costs = CostModel(curve, nothing, nothing, Grid((1,), (nothing,)), SequenceBytes(1.0))
    turns, arrivals = np.arange(40), 3.0 * np.arange(40, dtype=np.float64)
    chat = WorkloadTrace(
        "t", "test", arrivals, np.full(40, 10), np.full(40, 2), session=np.zeros(40, dtype=np.int64), turn=turns + 1
    )

    def serve(requests: WorkloadTrace) -> Outcome:
        return simulate(requests, costs, 1e9)

    found = max_sustainable_rate(chat, serve, SLO(ttft_ms=1e3))
    assert found.capacity_per_s == pytest.approx(1.0, rel=0.03)
    assert found.requests_per_s == pytest.approx(1.0, rel=0.03)
    assert not found.limited_by_slo
    opened = max_sustainable_rate(open_loop(chat), serve, SLO(ttft_ms=1e3))
    assert opened.capacity_per_s > 5, "a batch takes as long as one request"
    stated = replace(chat, delay_s=np.full(40, 1.0))
    assert max_sustainable_rate(stated, serve, SLO(ttft_ms=1e3)).capacity_per_s == found.capacity_per_s


def test_a_trace_without_arrivals_is_refused() -> None:
    with pytest.raises(RequestError, match=r"workload: .*--rate"):
        max_sustainable_rate(replace(trace(10), arrival_s=np.zeros(10)), one_by_one)


@settings(max_examples=30, deadline=None)
@given(service=st.floats(1e-3, 10.0), limit=st.floats(1.5, 20.0), seed=st.integers(0, 100))
def test_twice_as_fast_a_server_sustains_twice_the_rate(service: float, limit: float, seed: int) -> None:
    requests = trace(100, seed)

    def sustained(seconds: float) -> SustainableRate:
        return max_sustainable_rate(requests, lambda one: one_by_one(one, seconds), SLO(ttft_ms=1e3 * limit * seconds))

    slow, fast = sustained(service), sustained(service / 2)
    assert fast.requests_per_s == pytest.approx(2 * slow.requests_per_s, rel=1e-6)


def test_more_memory_never_sustains_less() -> None:
    curve = Curve((1.0, 4096.0), (0.004, 0.1))
    costs = CostModel(
        curve, Curve((1.0, 4096.0), (0.0, 0.01)), Curve((1.0,), (0.0,)),
        Grid((1,), (Curve((1.0, 4096.0), (1e-5, 1e-4)),)), SequenceBytes(1000.0),
    )  # fmt: skip
    requests = trace(300)

    def sustained(capacity: float) -> float:
        return max_sustainable_rate(
            requests, lambda one: simulate(one, costs, capacity, ServingOptions()), SLO(ttft_ms=200, tpot_ms=50)
        ).requests_per_s

    rates = [sustained(capacity) for capacity in (4e5, 1e6, 1e7)]
    assert rates == sorted(rates)
    assert rates[0] < rates[1]


def test_a_trace_keeps_its_pattern_at_another_rate() -> None:
    faster = with_rate(trace(100), 12.5)
    assert faster.summary().requests_per_s == pytest.approx(12.5)
    gaps = np.diff(trace(100).arrival_s)
    np.testing.assert_allclose(np.diff(faster.arrival_s) / gaps, faster.arrival_s[-1] / trace(100).arrival_s[-1])


def test_a_short_trace_tells_a_capacity_as_a_long_one_does(costs: CostModel) -> None:
    """A server that takes most of the requests at once fills up and runs empty over all of a short trace."""
    short = synthesize(requests=60, seed=1, requests_per_s=5.0, input_tokens=(50, 80), output_tokens=(40, 60))
    long = repeated(short, 30)

    def serve(trace: WorkloadTrace) -> Outcome:
        return simulate(trace, costs, 50 * 120 * costs.sequence.per_token)

    assert serve(replace(short, arrival_s=np.zeros(len(short)))).max_running > len(short) / 2
    found, wanted = (max_sustainable_rate(trace, serve).capacity_per_s for trace in (short, long))
    assert found == pytest.approx(wanted, rel=0.03)
