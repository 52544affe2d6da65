"""Conservation laws of serving, checked by an executor that keeps its own books."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.serving import KVMemory, Outcome, SequenceBytes, ServingOptions, Step, serve
from autokv.workload import PrefixBlocks, WorkloadTrace

BLOCK = 4
BLOCK = 8


@dataclass
class Witness:
    """Runs iterations and recomputes, request by request, what the scheduler keeps only in sums."""

    trace: WorkloadTrace
    memory: KVMemory
    options: ServingOptions
    one_by_one: bool = False
    seconds: float = 0.25
    held: dict[int, int] = field(default_factory=dict)
    out: dict[int, int] = field(default_factory=dict)
    host: dict[int, int] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def run(self, step: Step, until: float) -> tuple[int, float]:
        ran = step.repeats
        if self.one_by_one:
            ran = 1
        elif until < math.inf:
            ran = max(1, min(ran, math.ceil(until / self.seconds)))
        tokens = len(step.decoding) + sum(chunk.tokens for chunk in step.chunks)
        assert tokens > 0
        assert tokens <= self.options.max_num_batched_tokens
        for request in step.dropped:
            del self.held[request]
        for request in step.swapped_out:
            self.host[request] = self.held.pop(request)
        for request in step.swapped_in:
            self.held[request] = self.host.pop(request)
        assert step.held_tokens == sum(self.held[request] for request in step.decoding)
        for request in step.decoding:
            assert self.out[request] >= 1
            self.held[request] += ran
            self.out[request] += ran
        for chunk in step.chunks:
            start = self.held.get(chunk.request)
            # A prompt's first chunk begins behind its shared prefix, every other one where the last ended.
            assert chunk.start == (chunk.start if start is None else start)
            assert start is not None or chunk.start % BLOCK == 0
            assert self.options.prefix_caching or start is not None or chunk.start == 0
            self.held[chunk.request] = chunk.start + chunk.tokens
            target = int(self.trace.input_tokens[chunk.request]) + self.out.get(chunk.request, 0)
            assert chunk.last == (self.held[chunk.request] == target)
            if chunk.last:
                self.out[chunk.request] = self.out.get(chunk.request, 0) + 1
        assert len(self.held) <= self.options.max_num_seqs
        if not self.options.prefix_caching:
            assert sum(self.memory.blocks_of(tokens) for tokens in self.held.values()) <= self.memory.blocks
        self.events.append((ran, sorted(step.decoding), step.chunks, step.dropped, step.swapped_out, step.swapped_in))
        return ran, ran * self.seconds

    def finished(self, requests: Collection[int]) -> None:
        for request in requests:
            assert self.out[request] == self.trace.output_tokens[request]
            # The last token came out and was not fed back.
            assert self.held.pop(request) == self.trace.input_tokens[request] + self.out[request] - 1
            self.done.append(request)


def trace_of(rows: list[tuple[float, int, int]], prefixes: PrefixBlocks | None = None) -> WorkloadTrace:
    arrivals, inputs, outputs = (np.array(column) for column in zip(*rows, strict=True))
    arrivals = np.cumsum(arrivals) - arrivals[0]
    return WorkloadTrace("t", "test", arrivals, inputs.astype(np.int64), outputs.astype(np.int64), prefixes=prefixes)


# Sums of binary fractions are exact: an arrival at the end of an iteration is there however that end was reached.
rows = st.lists(
    st.tuples(st.sampled_from([0.0, 0.125, 0.3125, 1.0, 30.0]), st.integers(1, 40), st.integers(1, 30)),
    min_size=1,
    max_size=25,
)
policies = st.builds(
    ServingOptions,
    max_num_batched_tokens=st.sampled_from([8, 16, 64]),
    max_num_seqs=st.sampled_from([1, 3, 8]),
    order=st.sampled_from(["fcfs", "shortest_first"]),
    preemption=st.sampled_from(["recompute", "swap"]),
    prefix_caching=st.booleans(),
    block_size=st.just(BLOCK),
)
memories = st.builds(
    lambda blocks, fixed, staged: KVMemory(
        blocks * BLOCK * 10.0, SequenceBytes(10.0, fixed * BLOCK * 10.0, staged), block_size=BLOCK
    ),
    blocks=st.sampled_from([6, 12, 18, 25, 60, 10**6]),
    fixed=st.sampled_from([0, 1]),
    staged=st.sampled_from([0.0, 10.0, 30.0]),
)


@st.composite
def traces(draw: st.DrawFn) -> WorkloadTrace:
    found = draw(rows)
    families = draw(st.lists(st.integers(0, 2), min_size=len(found), max_size=len(found)))
    # Requests of a family begin alike, as far as both of them go.
    counts = [-(-inputs // BLOCK) for _, inputs, _ in found]
    hashes = [family * 100 + place for family, count in zip(families, counts, strict=True) for place in range(count)]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return trace_of(found, PrefixBlocks(BLOCK, offsets, np.array(hashes, dtype=np.int64)))


def run(
    trace: WorkloadTrace, memory: KVMemory, options: ServingOptions, *, one_by_one: bool = False
) -> tuple[Outcome, Witness]:
    witness = Witness(trace, memory, options, one_by_one)
    return serve(trace, memory, witness, options), witness


@settings(max_examples=400, deadline=None)
@given(traces(), memories, policies)
def test_conservation(trace: WorkloadTrace, memory: KVMemory, options: ServingOptions) -> None:
    outcome, witness = run(trace, memory, options)
    served = np.flatnonzero(outcome.served)
    # Every request that the memory can hold finishes once, with all its tokens, and leaves nothing behind.
    assert sorted(witness.done) == served.tolist()
    assert not witness.held
    assert not witness.host
    ends = trace.input_tokens + trace.output_tokens - 1
    for request in np.flatnonzero(~outcome.served):
        prompt = int(trace.input_tokens[request])
        assert max(memory.blocks_of(int(ends[request])), memory.staged_blocks(prompt)) > memory.blocks
    # No token before its arrival; the first before the last.
    assert (outcome.first_token_s[served] > outcome.arrival_s[served]).all()
    assert (outcome.finish_s[served] >= outcome.first_token_s[served]).all()
    # KV never exceeds its memory.
    assert outcome.peak_kv_bytes <= memory.blocks * memory.block_bytes
    assert (outcome.timeline.kv_bytes <= memory.blocks * memory.block_bytes).all()
    # Work-conserving: the time without an iteration is time without a request.
    intervals = sorted(zip(outcome.arrival_s[served], outcome.finish_s[served], strict=True))
    busy, end = 0.0, 0.0
    for begin, finish in intervals:
        busy += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    assert outcome.busy_s == pytest.approx(busy)


@settings(max_examples=150, deadline=None)
@given(traces(), memories, policies)
def test_running_equal_iterations_at_once_changes_nothing(
    trace: WorkloadTrace, memory: KVMemory, options: ServingOptions
) -> None:
    many, _ = run(trace, memory, options)
    single, _ = run(trace, memory, options, one_by_one=True)
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(getattr(many, name), getattr(single, name), rtol=1e-9, equal_nan=True)
    assert many.iterations == single.iterations
    assert many.preemptions.tolist() == single.preemptions.tolist()


@settings(max_examples=100, deadline=None)
@given(traces(), policies)
def test_unlimited_memory_preempts_nobody(trace: WorkloadTrace, options: ServingOptions) -> None:
    outcome, witness = run(trace, KVMemory(1e15, SequenceBytes(10.0), BLOCK), options)
    assert outcome.preemptions.sum() == 0
    assert outcome.served.all()
    assert not any(dropped or out for _, _, _, dropped, out, _ in witness.events)


@settings(max_examples=100, deadline=None)
@given(traces(), memories, policies)
def test_the_same_trace_gives_the_same_events(trace: WorkloadTrace, memory: KVMemory, options: ServingOptions) -> None:
    assert run(trace, memory, options)[1].events == run(trace, memory, options)[1].events


@settings(max_examples=100, deadline=None)
@given(traces(), memories, policies)
def test_first_come_first_served_starts_in_order(
    trace: WorkloadTrace, memory: KVMemory, options: ServingOptions
) -> None:
    options = replace(options, order="fcfs", prefix_caching=False)
    outcome, _ = run(trace, memory, options)
    first = outcome.first_token_s[outcome.served]
    if not outcome.preemptions.sum():
        assert (np.diff(first) >= 0).all()
