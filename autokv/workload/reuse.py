"""How much of a trace's prompts was computed before: hits of a prefix cache of any size, from block hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autokv.workload.trace import PrefixBlocks, WorkloadTrace


def reused_tokens(trace: WorkloadTrace) -> NDArray[np.int64]:
    """Tokens at the beginning of each prompt that an earlier prompt began with too, int64 [requests].

    A cache that forgets nothing would spare them. All 0 where the trace has no block hashes.
    """
    if trace.prefixes is None:
        return np.zeros(len(trace), dtype=np.int64)
    return _leading_tokens(trace, trace.prefixes, _previous(trace.prefixes.hashes) >= 0)


def reuse_at(trace: WorkloadTrace, cache_tokens: Sequence[int]) -> tuple[float, ...]:
    """Share of all prompt tokens that a prefix cache of so many tokens spares, one share a size.

    The cache keeps the blocks used last (LRU); of one prompt it forgets the end first, as vLLM (2023) does, so that a
    block is never kept without those before it. All sizes come from one pass over stack distances (Mattson et al.,
    1970), in O(blocks log blocks).
    """
    if trace.prefixes is None:
        return (0.0,) * len(cache_tokens)
    prefixes, offsets = trace.prefixes, trace.prefixes.offsets
    # The places of all hashes, requests in order, each request's last block first.
    turned = np.repeat(offsets[1:] + offsets[:-1] - 1, np.diff(offsets)) - np.arange(offsets[-1])
    distances = np.empty(len(turned), dtype=np.int64)
    distances[turned] = stack_distances(prefixes.hashes[turned])
    # A prompt is looked up before any of its blocks is used. Those behind a block, used just before it and last used
    # before it then too, do not stand between its uses.
    behind = np.empty(len(turned), dtype=np.int64)
    behind[turned] = np.arange(len(turned)) - np.repeat(offsets[:-1], np.diff(offsets))
    prompts = float(trace.input_tokens.sum())
    hits = ((distances >= 0) & (distances - behind < tokens // prefixes.block_tokens) for tokens in cache_tokens)
    return tuple(float(_leading_tokens(trace, prefixes, hit).sum()) / prompts for hit in hits)


def stack_distances(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Distinct other keys since a key was last used, int64 [n]; -1 at its first use.

    A use hits in an LRU cache of ``c`` keys exactly where its distance is at least 0 and below ``c``.
    """
    previous = _previous(keys)
    again = previous >= 0
    # The keys first used since then are as many as the earlier places whose own previous use is no later, less those
    # up to the last use itself, all of which are such places.
    distances = _smaller_before(previous) - previous - 1
    return np.where(again, distances, -1)


def _previous(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each key's use before this one, -1 at the first."""
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    previous = np.full(len(keys), -1, dtype=np.int64)
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _smaller_before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier values each value exceeds or equals, int64 [n].

    A radix descent over the values' ranks: at every bit, from the highest, those whose bits so far agree stand
    together in their old order, and one whose bit is set exceeds each before it whose bit is not.
    """
    count = len(values)
    ranks = np.empty(count, dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(count)
    places = np.arange(count)
    found = np.zeros(count, dtype=np.int64)
    for bit in reversed(range(max(1, count - 1).bit_length())):
        here = ranks[places]
        unset = (here >> bit & 1) == 0
        before = np.cumsum(unset) - unset
        group = here >> (bit + 1)
        first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if count else places
        sizes = np.diff(np.append(first, count))
        start = np.repeat(first, sizes)
        in_group = before - np.repeat(before[first], sizes)
        found[places[~unset]] += in_group[~unset]
        zeros = np.add.reduceat(unset.astype(np.int64), first) if count else places
        ones_before = np.arange(count) - start - in_group
        target = np.where(unset, start + in_group, start + np.repeat(zeros, sizes) + ones_before)
        moved = np.empty_like(places)
        moved[target] = places
        places = moved
    return found


def _leading_tokens(trace: WorkloadTrace, prefixes: PrefixBlocks, hit: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Tokens of each prompt's blocks before its first miss, at most the prompt's."""
    counts = np.diff(prefixes.offsets)
    misses = np.concatenate([[0], np.cumsum(~hit)])
    so_far = misses[1:] - np.repeat(misses[prefixes.offsets[:-1]], counts)
    unbroken = np.concatenate([[0], np.cumsum(so_far == 0)])
    blocks = unbroken[prefixes.offsets[1:]] - unbroken[prefixes.offsets[:-1]]
    tokens: NDArray[np.int64] = np.minimum(blocks * prefixes.block_tokens, trace.input_tokens)
    return tokens
