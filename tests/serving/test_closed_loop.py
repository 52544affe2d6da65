"""Closed loops: a turn comes once the one before it has ended, and everything else is as in an open loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.serving import SLO, CostModel, Curve, Grid, Outcome, SequenceBytes, ServingOptions, simulate
from autokv.serving.closed_loop import NOBODY, open_loop, turns_before
from autokv.workload import PrefixBlocks, WorkloadTrace

PLENTY = 1e12
BLOCK = 16
COSTS = CostModel(
    rest=Curve((1, 512), (0.01, 0.05)),
    prefill_attention=Curve((1, 512), (0.0, 0.03)),
    compress=Curve((1, 512), (0.001, 0.004)),
    decode_attention=Grid((1, 4), (Curve((1, 512), (0.001, 0.002)), Curve((1, 512), (0.002, 0.006)))),
    sequence=SequenceBytes(10.0),
)
"""No two sums of these are alike by chance."""


def chat(arrivals: list[float], session: list[int], delays: list[float] | None = None) -> WorkloadTrace:
    requests = len(arrivals)
    return WorkloadTrace(
        "t",
        "test",
        np.array(arrivals, dtype=float),
        np.full(requests, 100),
        np.full(requests, 20),
        session=np.array(session),
        turn=np.array([session[:place].count(one) + 1 for place, one in enumerate(session)]),
        delay_s=None if delays is None else np.array(delays),
    )


@st.composite
def chats(draw: st.DrawFn) -> WorkloadTrace:
    """Few conversations, many turns, gaps from far too short to long; some delays are known."""
    rows = draw(
        st.lists(
            st.tuples(
                st.floats(0, 1.5),
                st.integers(1, 200),
                st.integers(1, 60),
                st.integers(0, 3),
                st.integers(1, 4),
                st.none() | st.floats(0, 2.0),
            ),
            min_size=1,
            max_size=16,
        )
    )
    gaps, inputs, outputs, session, turn, delays = zip(*rows, strict=True)
    arrivals = np.cumsum(gaps)
    blocks = [tuple(range(length // 32)) for length in inputs]
    return WorkloadTrace(
        "t",
        "test",
        arrivals - arrivals[0],
        np.array(inputs),
        np.array(outputs),
        prefixes=PrefixBlocks(
            32,
            np.concatenate([[0], np.cumsum([len(one) for one in blocks])]),
            np.array([block for one in blocks for block in one], dtype=np.int64),
        ),
        session=np.array(session),
        turn=np.array(turn),
        delay_s=np.array([np.nan if one is None else one for one in delays]),
    )


policies = st.builds(
    ServingOptions,
    max_num_batched_tokens=st.sampled_from([32, 256]),
    max_num_seqs=st.sampled_from([1, 3, 32]),
    order=st.sampled_from(["fcfs", "shortest_first"]),
    preemption=st.sampled_from(["recompute", "swap"]),
    prefix_caching=st.booleans(),
    block_size=st.just(BLOCK),
)
memories = st.sampled_from([BLOCK * 10.0 * blocks for blocks in (12, 20, 40, 10_000)])


def run(trace: WorkloadTrace, capacity: float, options: ServingOptions) -> Outcome:
    return simulate(trace, COSTS, capacity, options, link_gb_per_s=1e-3)


@settings(max_examples=150, deadline=None)
@given(chats(), memories, policies)
def test_a_closed_loop_is_an_open_one_whose_requests_come_when_the_turns_before_end(
    trace: WorkloadTrace, capacity: float, options: ServingOptions
) -> None:
    closed = run(trace, capacity, options)
    order = np.argsort(closed.arrival_s, kind="stable")
    # The scheduler of open loops is the reference: given these arrivals it must end every request at the same time.
    opened = run(open_loop(replace(trace.take(order), arrival_s=closed.arrival_s[order])), capacity, options)
    for name in ("arrival_s", "first_token_s", "finish_s", "preemptions", "cached_tokens"):
        np.testing.assert_array_equal(getattr(closed, name)[order], getattr(opened, name))
    assert (closed.iterations, closed.busy_s, closed.max_running) == (
        opened.iterations,
        opened.busy_s,
        opened.max_running,
    )
    # And these arrivals are what a closed loop says.
    ends = np.where(closed.served, closed.finish_s, closed.arrival_s)
    assert trace.delay_s is not None
    for request, before in enumerate(turns_before(trace).tolist()):
        recorded, delay = trace.arrival_s[request], trace.delay_s[request]
        if before == NOBODY:
            expected = recorded
        else:
            expected = max(recorded, ends[before]) if np.isnan(delay) else ends[before] + delay
        assert closed.arrival_s[request] == expected


@settings(max_examples=50, deadline=None)
@given(chats(), memories, policies)
def test_conversations_with_time_enough_between_turns_are_served_as_in_an_open_loop(
    trace: WorkloadTrace, capacity: float, options: ServingOptions
) -> None:
    slow = replace(trace, arrival_s=1e4 * np.arange(len(trace), dtype=np.float64), delay_s=None)
    closed, opened = run(slow, capacity, options), run(open_loop(slow), capacity, options)
    np.testing.assert_array_equal(closed.arrival_s, opened.arrival_s)
    np.testing.assert_array_equal(closed.finish_s, opened.finish_s)
    assert (closed.report().closed_loop, opened.report().closed_loop) == (True, False)
    assert closed.report().late_share == 0


def test_a_turn_waits_for_the_one_before_it_and_others_do_not() -> None:
    alone = float(simulate(chat([0.0], [0]), COSTS, PLENTY).finish_s[0])
    found = simulate(chat([0.0, alone / 2, 50.0, 99.0], [7, 7, 7, 8]), COSTS, PLENTY)
    assert found.arrival_s.tolist() == [0.0, pytest.approx(alone), 50.0, 99.0]
    assert found.e2e_s.tolist() == pytest.approx([alone] * 4), "times count from when a turn really comes"
    assert found.late_s.tolist() == pytest.approx([0.0, alone / 2, 0.0, 0.0])
    report = found.report(SLO(ttft_ms=1e3 * alone))
    assert (report.slo_attainment, report.late_share) == (1.0, 0.25)


def test_a_delay_counts_from_the_end_of_the_turn_before() -> None:
    alone = float(simulate(chat([0.0], [0]), COSTS, PLENTY).finish_s[0])
    found = simulate(chat([0.0, 2.5, 2.5], [1, 1, 1], [np.nan, 2.5, 0.0]), COSTS, PLENTY)
    assert found.arrival_s.tolist() == pytest.approx([0.0, alone + 2.5, 2 * alone + 2.5])
    assert found.late_s.tolist() == [0.0, 0.0, 0.0], "the trace does not say when these came"


def test_a_slower_server_makes_later_turns_later() -> None:
    trace = chat([0.0, 0.1, 0.2, 0.3], [1, 2, 1, 2])
    slow = replace(COSTS, rest=Curve((1, 512), (0.1, 0.5)))
    fast_ends, slow_ends = (simulate(trace, costs, PLENTY).finish_s for costs in (COSTS, slow))
    assert (slow_ends > fast_ends).all()
    assert simulate(trace, slow, PLENTY).max_running == 2, "one turn of each conversation at once"
    assert simulate(open_loop(trace), slow, PLENTY).max_running == 4


def test_a_turn_that_is_refused_does_not_hold_up_the_next() -> None:
    trace = chat([0.0, 1.0, 2.0, 3.0], [1, 1, 1, 1])
    trace.input_tokens[1] = trace.input_tokens[2] = 5000
    found = simulate(trace, COSTS, 1000 * 10.0)
    assert found.served.tolist() == [True, False, False, True]
    assert found.arrival_s.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_two_answers_to_one_turn_wait_for_the_same_one() -> None:
    trace = replace(chat([0.0] * 6, [5, 5, 5, 9, 5, 5]), turn=np.array([1, 2, 2, 1, 3, 1]))
    assert turns_before(trace).tolist() == [NOBODY, 0, 0, NOBODY, 2, NOBODY]
    assert turns_before(replace(trace, turn=None)).tolist() == [NOBODY, 0, 1, NOBODY, 2, 4]
    assert set(turns_before(open_loop(trace)).tolist()) == {NOBODY}
