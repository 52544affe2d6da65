"""An excerpt is made of real neighbours, has the load of the whole, and says what it cuts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.workload import WorkloadTrace, generate, read_trace
from autokv.workload.excerpt import STRETCHES, excerpt
from autokv.workload.synthesis import Gamma, Lengths

TRACES = Path(__file__).parents[3] / "shared/data/traces"


def odd_head(requests: int = 10_000) -> WorkloadTrace:
    """The first third is short and slow; then prompts grow, and come faster, with every hour."""
    plain = generate(
        requests=requests, arrivals=Gamma(5.0, 3.0), input_tokens=Lengths(400, 900), output_tokens=Lengths(80, 200)
    )
    place = np.arange(requests) / requests
    gaps = np.diff(plain.arrival_s, prepend=0.0) * np.where(place < 1 / 3, 4.0, 1.5 - place)
    longer = np.where(place < 1 / 3, 0.2, 1 + place)
    return replace(
        plain,
        arrival_s=np.cumsum(gaps),
        input_tokens=np.maximum(1, (plain.input_tokens * longer).astype(np.int64)),
        lines=np.arange(requests) + 1,
    )


TRACE = odd_head()


def tokens_per_s(trace: WorkloadTrace) -> tuple[float, float]:
    duration = float(trace.arrival_s[-1])
    return float(trace.input_tokens.sum()) / duration, float(trace.output_tokens.sum()) / duration


@pytest.mark.parametrize("requests", [500, 2000, 4000])
def test_it_has_the_load_that_a_beginning_has_not(requests: int) -> None:
    found, said = excerpt(TRACE, requests)
    beginning = TRACE.take(np.arange(requests))
    assert tokens_per_s(found) == pytest.approx(tokens_per_s(TRACE), rel=0.05)
    assert tokens_per_s(beginning)[0] < 0.3 * tokens_per_s(TRACE)[0]
    assert found.summary().requests_per_s == pytest.approx(TRACE.summary().requests_per_s)
    for tokens, whole in ((found.input_tokens, TRACE.input_tokens), (found.output_tokens, TRACE.output_tokens)):
        assert np.percentile(tokens, [50, 90, 99]) == pytest.approx(np.percentile(whole, [50, 90, 99]), rel=0.15)
    assert said.startswith(f"{requests:,} of 10,000 requests, 16 stretches from all over the trace, with ")
    mean = found.input_tokens.mean() / TRACE.input_tokens.mean()
    assert f"with {mean:.2f} times its mean input" in said


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_it_is_made_of_stretches_of_real_requests(total: int, requests: int, timed: bool) -> None:
    trace = TRACE.take(np.arange(total))
    if not timed:
        trace = replace(trace, arrival_s=np.zeros(total))
    found, said = excerpt(trace, requests)
    assert found.lines is not None
    if total <= requests:
        assert (found is trace, said) == (True, "")
        return
    assert len(found) == requests
    place = found.lines - 1
    assert (np.diff(place) > 0).all()
    assert found.input_tokens.tolist() == trace.input_tokens[place].tolist()
    assert found.arrival_s[0] == 0
    assert (np.diff(found.arrival_s) >= 0).all()
    neighbours = np.diff(place) == 1
    assert (~neighbours).sum() < STRETCHES
    if found.timed:
        scale = found.arrival_s[-1] / requests * total / trace.arrival_s[-1]
        assert scale == pytest.approx(1.0)
        real, kept = np.diff(trace.arrival_s[place])[neighbours], np.diff(found.arrival_s)[neighbours]
        # One factor for all gaps: the pattern is the trace's.
        assert kept * real.sum() == pytest.approx(real * kept.sum(), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(20, 300), st.integers(0, 2**16))
def test_conversations_are_not_joined_over_a_gap_and_cuts_are_counted(turns: int, requests: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    session = np.sort(rng.integers(0, 1000 // turns + 1, 1000) + rng.integers(0, 3, 1000))
    trace = replace(TRACE.take(np.arange(1000)), session=session, turn=None)
    found, said = excerpt(trace, requests)
    assert found.lines is not None
    assert found.session is not None
    place = found.lines - 1
    whole: set[int] = set()
    cut: set[int] = set()
    for piece in np.unique(found.session):
        mine = place[found.session == piece]
        owner = np.unique(session[mine])
        assert len(owner) == 1
        between = np.arange(mine[0], mine[-1] + 1)
        assert np.isin(between, place).all(), "no request of the trace is missing between two of one piece"
        (whole if len(mine) == (session == owner[0]).sum() else cut).add(int(owner[0]))
    assert said.endswith(f"; {len(cut)} of {len(cut | whole)} conversations are cut") == bool(cut)


@pytest.mark.parametrize("name", ["AzureLLMInferenceTrace_conv.csv", "mooncake_conversation.jsonl"])
@pytest.mark.skipif(not TRACES.is_dir(), reason="the traces are not here")
def test_it_has_the_load_of_real_traffic(name: str) -> None:
    trace = read_trace(TRACES / name)
    found, _ = excerpt(trace, 2000)
    assert tokens_per_s(found) == pytest.approx(tokens_per_s(trace), rel=0.06)
    counts, whole = (
        np.bincount((one.arrival_s / 20.0).astype(np.int64))[:-1] for one in (found, trace)
    )  # a slow change of the load shows in windows of 20 s
    assert counts.var() / counts.mean() == pytest.approx(whole.var() / whole.mean(), rel=0.6)
