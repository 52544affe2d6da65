"""The part of a trace that is served."""

from __future__ import annotations

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
