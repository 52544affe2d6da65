"""Reuse of prefixes against caches that are simulated block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.workload import PrefixBlocks, WorkloadTrace
from autokv.workload.reuse import reuse_at, reused_tokens, stack_distances

BLOCK = 8
prompts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=40)


def trace_of(paths: list[list[int]], last: int = BLOCK) -> WorkloadTrace:
    """Prompts as paths in a tree: a block's hash stands for it and all before it, as in the formats that have them."""
    names: dict[tuple[int, ...], int] = {}
    hashed = [[names.setdefault(tuple(path[: depth + 1]), len(names)) for depth in range(len(path))] for path in paths]
    counts = np.array([len(path) for path in paths])
    hashes = np.array([name for path in hashed for name in path], dtype=np.int64)
    return WorkloadTrace(
        "t",
        "test",
        np.arange(len(paths), dtype=np.float64),
        (counts - 1) * BLOCK + last,
        np.ones(len(paths), dtype=np.int64),
        prefixes=PrefixBlocks(BLOCK, np.concatenate([[0], np.cumsum(counts)]), hashes),
    )


@given(prompts, st.integers(1, BLOCK))
def test_a_cache_that_forgets_nothing(paths: list[list[int]], last: int) -> None:
    trace = trace_of(paths, last)
    seen: set[tuple[int, ...]] = set()
    expected = []
    for path, tokens in zip(paths, trace.input_tokens.tolist(), strict=True):
        prefixes = [tuple(path[: depth + 1]) for depth in range(len(path))]
        expected.append(min(BLOCK * sum(prefix in seen for prefix in prefixes), tokens))
        seen.update(prefixes)
    assert reused_tokens(trace).tolist() == expected


@given(prompts, st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_a_cache_that_forgets_the_least_recent(paths: list[list[int]], blocks: list[int]) -> None:
    trace = trace_of(paths)
    sizes = [BLOCK * count for count in blocks]
    assert reuse_at(trace, sizes) == pytest.approx([simulated(trace, count) for count in blocks])


def simulated(trace: WorkloadTrace, blocks: int) -> float:
    assert trace.prefixes is not None
    cache: dict[int, None] = {}
    spared = 0
    for request in range(len(trace)):
        path = trace.prefixes.of(request).tolist()
        hits = 0
        while hits < len(path) and path[hits] in cache:
            hits += 1
        spared += BLOCK * hits
        # The end is touched first, so that it is the first to go.
        for block in reversed(path):
            cache.pop(block, None)
            cache[block] = None
        while len(cache) > blocks:
            del cache[next(iter(cache))]
    return spared / float(trace.input_tokens.sum())


@given(st.lists(st.integers(-2, 5), max_size=60))
def test_stack_distances(keys: list[int]) -> None:
    stack: list[int] = []
    expected = []
    for key in keys:
        expected.append(stack.index(key) if key in stack else -1)
        if key in stack:
            stack.remove(key)
        stack.insert(0, key)
    assert stack_distances(np.array(keys, dtype=np.int64)).tolist() == expected


def test_a_larger_cache_spares_no_less_and_an_endless_one_all() -> None:
    rng = np.random.default_rng(3)
    trace = trace_of(rng.integers(0, 3, (400, 5)).tolist())
    sizes = [BLOCK * 2**power for power in range(12)]
    shares = reuse_at(trace, sizes)
    assert list(shares) == sorted(shares)
    assert shares[-1] == pytest.approx(reused_tokens(trace).sum() / trace.input_tokens.sum())
    assert 0 < shares[2] < shares[-1]


def test_without_hashes_nothing_is_known_to_be_shared() -> None:
    ones = np.ones(3, dtype=np.int64)
    trace = WorkloadTrace("t", "test", np.zeros(3), ones, ones)
    assert reused_tokens(trace).tolist() == [0, 0, 0]
    assert reuse_at(trace, [8, 16]) == (0.0, 0.0)
