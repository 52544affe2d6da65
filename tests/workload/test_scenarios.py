"""Scenarios from traces that are plainly one or the other, and the table held to its documentation."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv import search_spaces
from autokv.errors import WorkloadError
from autokv.workload.scenarios import CLEAR, FALLBACK, SCENARIOS, ScenarioKind, classify, ramp
from autokv.workload.trace import PrefixBlocks, WorkloadTrace

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/data/traces"
classified = partial(
    classify, context_tokens=131_072, kv_bytes_per_token=131_072, weights_bytes=16e9, memory_bytes=80e9
)
"""Of Llama 3.1 8B."""


def trace_of(inputs: int, outputs: int, *, seconds: float = 10.0, requests: int = 200) -> WorkloadTrace:
    """Requests of one size, ``seconds`` apart."""
    return WorkloadTrace(
        "t",
        "test",
        np.arange(requests, dtype=np.float64) * seconds,
        np.full(requests, inputs, dtype=np.int64),
        np.full(requests, outputs, dtype=np.int64),
    )


def conversations(turns: int) -> WorkloadTrace:
    trace = trace_of(600, 200)
    number = np.arange(len(trace))
    return replace(trace, session=number // turns, turn=number % turns + 1)


def shared_prompts() -> WorkloadTrace:
    """Every prompt begins with the same 512 tokens and ends in its own."""
    trace = trace_of(700, 200)
    hashes = np.stack([np.zeros(len(trace), dtype=np.int64), np.arange(len(trace)) + 1], axis=1).ravel()
    return replace(trace, prefixes=PrefixBlocks(512, np.arange(len(trace) + 1) * 2, hashes))


PLAIN = {
    "reasoning": trace_of(300, 4000),
    "multi-turn": conversations(4),
    "edge": trace_of(900, 200),
    "ultra-long-request": trace_of(100_000, 500, seconds=500.0),
    "prefill-heavy": trace_of(3000, 30),
    "data-center": trace_of(900, 200, seconds=0.1),
    FALLBACK: trace_of(900, 200),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_plain_cases(name: str) -> None:
    trace = PLAIN[name]
    found = classified(trace, memory_bytes=17.9e9) if name == "edge" else classified(trace)
    assert found.name == name
    assert found.weights[name] >= CLEAR
    assert (found.space, found.objectives) == (SCENARIOS[name].space, SCENARIOS[name].objectives)
    assert found.why[0].startswith(f"{name} (")


def test_shared_prefixes_ask_for_what_conversations_do() -> None:
    assert classified(shared_prompts()).name == "multi-turn"


def test_what_forbids_most_decides() -> None:
    """A conversation with long prompts in a busy place is all three, and nothing may be evicted."""
    number = np.arange(400)
    busy = replace(trace_of(3000, 30, seconds=0.01, requests=400), session=number // 4, turn=number % 4 + 1)
    found = classified(busy)
    assert min(found.weights[name] for name in ("multi-turn", "prefill-heavy", "data-center")) >= CLEAR
    assert found.name == "multi-turn"


def test_memory_that_is_not_known_is_not_tight_and_none_at_all_is() -> None:
    assert classified(PLAIN["edge"], memory_bytes=None).weights["edge"] == 0
    assert classified(PLAIN["edge"], memory_bytes=10e9).weights["edge"] == 1


def test_without_arrivals_nobody_is_in_flight() -> None:
    found = classified(trace_of(900, 200, seconds=0.0))
    assert (found.name, found.weights["data-center"]) == (FALLBACK, 0)


def test_the_user_can_overrule() -> None:
    found = classified(PLAIN["data-center"])
    other = found.overruled("edge")
    assert (other.name, other.space, other.weights) == ("edge", "edge", found.weights)
    with pytest.raises(WorkloadError, match="choose from reasoning, multi-turn"):
        found.overruled("cloud")


@given(
    st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.floats(1.001, 100), st.booleans(), st.floats(0, 1e3, allow_nan=False)
)
def test_a_ramp_climbs_from_0_to_1(value: float, low: float, times: float, logarithmic: bool, more: float) -> None:
    here = ramp(value, low, low * times, logarithmic=logarithmic)
    assert 0 <= here <= ramp(value + more, low, low * times, logarithmic=logarithmic) <= 1
    assert ramp(low, low, low * times, logarithmic=logarithmic) == 0
    assert ramp(low * times, low, low * times, logarithmic=logarithmic) == 1


@given(
    st.integers(1, 200_000),
    st.integers(1, 50_000),
    st.floats(0, 100),
    st.integers(1, 50),
    st.one_of(st.none(), st.floats(1e9, 1e12)),
)
def test_every_trace_is_something(
    inputs: int, outputs: int, seconds: float, requests: int, memory: float | None
) -> None:
    trace = trace_of(inputs, outputs, seconds=seconds, requests=requests)
    found = classified(trace, memory_bytes=memory)
    assert list(found.weights) == list(SCENARIOS)
    assert all(0 <= weight <= 1 for weight in found.weights.values())
    assert found.weights[FALLBACK] == pytest.approx(
        1 - max(weight for name, weight in found.weights.items() if name != FALLBACK)
    )
    assert found.weights[found.name] > 0


@pytest.mark.parametrize("kind", SCENARIOS.values(), ids=SCENARIOS)
def test_the_page_says_what_the_table_does(kind: ScenarioKind) -> None:
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    rows = {
        name: (space, tuple(re.findall(r"`(\w+)`", objectives)))
        for name, space, objectives in re.findall(
            r"^\| `([\w-]+)` \|[^|]+\| `([\w-]+)` \| ([^|]+) \|$", page, re.MULTILINE
        )
    }
    assert rows[kind.name] == (kind.space, kind.objectives)
    assert list(rows) == list(SCENARIOS)
    assert kind.space in search_spaces.names()
    assert 1 <= len(kind.objectives) <= 4


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("AzureLLMInferenceTrace_code.csv", "prefill-heavy"),
        ("AzureLLMInferenceTrace_conv.csv", "data-center"),
        ("mooncake_conversation.jsonl", "multi-turn"),
    ],
)
@pytest.mark.skipif(not SHARED.exists(), reason="the traces are not here")
def test_real_traces(file: str, expected: str) -> None:
    from autokv.workload import read_trace

    assert classified(read_trace(SHARED / file)).name == expected
