"""The part of a trace that is served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.serving.traffic import traffic
from autokv.workload import WorkloadTrace


def trace_of(arrivals: list[float], inputs: list[int], outputs: list[int]) -> WorkloadTrace:
    return WorkloadTrace("t", "test", np.array(arrivals, dtype=float), np.array(inputs), np.array(outputs))


def test_a_trace_within_all_limits_is_served_as_it_is() -> None:
    trace = trace_of([0, 1, 5], [10, 20, 30], [1, 2, 3])
    assert traffic(trace, context_tokens=33, requests=3) == (trace, ())


def test_the_first_requests_at_another_rate_keep_their_pattern() -> None:
    found, notes = traffic(trace_of([0, 1, 5, 6], [1, 2, 3, 4], [1] * 4), requests=3, rate=4.0)
    assert found.arrival_s.tolist() == pytest.approx([0.0, 0.15, 0.75])
    assert found.input_tokens.tolist() == [1, 2, 3]
    assert notes == ("the first 3 of 4 requests are served", "arrivals are scaled to 4 requests/s")


def test_conversations_wait_or_do_not_and_it_says_so() -> None:
    plain = trace_of([0, 1, 2, 3, 4, 5], [9] * 6, [2] * 6)
    chat = replace(plain, session=np.array([1, 1, 2, 2, 3, 2]), turn=np.array([1, 2, 1, 2, 1, 3]))
    found, notes = traffic(chat)
    assert found is chat
    assert notes == (
        "closed loop: each of 3 later turns comes when the turn before it has ended, at its own time at the earliest",
    )
    stated = replace(chat, delay_s=np.array([np.nan, 1.0, np.nan, np.nan, np.nan, 2.0]))
    assert "(2 of them) after the delay that the trace states" in traffic(stated)[1][0]
    opened, notes = traffic(stated, closed_loop=False)
    assert (opened.session, opened.turn, opened.delay_s) == (None, None, None)
    assert notes == ("open loop: 3 later turns do not wait for the end of the turn before them",)
    assert traffic(chat, requests=3)[1][0] == "the first 3 of 6 requests are served, which cuts 1 conversation"
    alone = replace(plain, session=np.arange(6), turn=np.ones(6, dtype=np.int64))
    found, notes = traffic(alone)
    assert (found.session, notes) == (None, ())


def test_a_sample_has_the_load_of_the_whole() -> None:
    lengths = np.where(np.arange(8000) < 2000, 10, 100)
    trace = trace_of((np.arange(8000) * 0.5).tolist(), lengths.tolist(), [4] * 8000)
    found, notes = traffic(trace, sample=2000)
    assert found.input_tokens.mean() == pytest.approx(trace.input_tokens.mean(), rel=0.01)
    assert found.summary().requests_per_s == pytest.approx(trace.summary().requests_per_s)
    assert notes[0].startswith("served: 2,000 of 8,000 requests, 16 stretches from all over the trace")
    assert traffic(trace, sample=8000) == (trace, ())


def test_a_trace_without_arrivals_gets_poisson_ones() -> None:
    trace = trace_of([0.0] * 4000, [8] * 4000, [2] * 4000)
    with pytest.raises(WorkloadError, match=r"t: has no arrivals, .*\(rate\)"):
        traffic(trace)
    found, notes = traffic(trace, rate=50.0, seed=3)
    gaps = np.diff(found.arrival_s)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert "Poisson process of 50 requests/s" in notes[0]
    assert traffic(trace, rate=50.0, seed=3)[0].arrival_s.tolist() == found.arrival_s.tolist()


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=20),
    st.integers(2, 150),
)
def test_every_request_fits_the_context_and_keeps_what_fits(rows: list[tuple[int, int]], context: int) -> None:
    inputs, outputs = zip(*rows, strict=True)
    trace = trace_of(list(range(len(rows))), list(inputs), list(outputs))
    found, notes = traffic(trace, context_tokens=context, rate=None if len(rows) > 1 else 1.0)
    assert (found.input_tokens >= 1).all()
    assert (found.output_tokens >= 1).all()
    assert (found.input_tokens + found.output_tokens <= context).all()
    fitted = trace.input_tokens + trace.output_tokens <= context
    assert (found.input_tokens[fitted] == trace.input_tokens[fitted]).all()
    assert (found.output_tokens[fitted] == trace.output_tokens[fitted]).all()
    assert any("cut to the model's context" in note for note in notes) != fitted.all()
