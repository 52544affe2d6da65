"""Turns that say how long after the one before they come, and only what they add to it (aiperf's conversations)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from autokv.workload.readers.columns import NONE, Columns, Ints, counted, mixed


def following(columns: Columns, *, adds: bool | None = None) -> Columns:
    """``columns`` with an arrival for each turn that has a delay, and with its whole prompt.

    Such a turn arrives as early as it can: a delay after the arrival of the turn before. Where it says only what it
    adds (``adds``; by default, where its blocks do not begin with the first block of the turn before), its prompt is
    what was said before, answers too, and what it adds; blocks that the turn before had filled are shared with it.
    """
    if columns.delay_ns is None or columns.session is None:
        return replace(columns, delay_ns=None)
    arrival = columns.arrival_ns.copy()
    delayed = columns.delay_ns != NONE
    # A first turn has none before it: its delay counts from the first arrival of all.
    arrival[delayed] = columns.delay_ns[delayed] + arrival[~delayed].min(initial=arrival.max())
    for turns in _conversations(columns.session):
        for before, turn in pairwise(turns):
            if delayed[turn]:
                arrival[turn] = arrival[before] + columns.delay_ns[turn]
    placed = replace(columns, arrival_ns=arrival, own_clocks=True)
    adds = _adds(placed, columns.session) if adds is None else adds
    return _accumulated(placed, columns.session) if adds else placed


def _conversations(session: Ints) -> Iterator[Ints]:
    """The rows of each conversation, in the order of the file."""
    order = np.argsort(session, kind="stable")
    starts = np.flatnonzero(np.diff(session[order], prepend=-2))
    for turns in np.split(order, starts[1:]):
        if session[turns[0]] != NONE:
            yield turns


def _adds(columns: Columns, session: Ints) -> bool:
    """Whether later turns say what they add, not all that was said."""
    first = _first_hashes(columns)
    pairs = [(before, turn) for turns in _conversations(session) for before, turn in pairwise(turns)]
    if first is not None:
        pairs = [(before, turn) for before, turn in pairs if first[before] != NONE and first[turn] != NONE] or pairs
        shared = sum(first[before] == first[turn] for before, turn in pairs)
        return bool(2 * shared < len(pairs))
    whole = columns.input_tokens + columns.output_tokens
    return any(columns.input_tokens[turn] < whole[before] for before, turn in pairs)


def _first_hashes(columns: Columns) -> Ints | None:
    if columns.hashes is None or columns.hash_counts is None:
        return None
    starts = np.cumsum(columns.hash_counts) - columns.hash_counts
    return np.where(columns.hash_counts > 0, columns.hashes[starts.clip(max=len(columns.hashes) - 1)], NONE)


def _accumulated(columns: Columns, session: Ints) -> Columns:
    """Whole prompts in place of what each turn adds."""
    inputs = columns.input_tokens.copy()
    for turns in _conversations(session):
        said = np.cumsum(columns.input_tokens[turns] + columns.output_tokens[turns])
        inputs[turns[1:]] += said[:-1]
    counts, hashes = _blocks(columns, inputs)
    longer = int((inputs > columns.input_tokens).sum())
    note = f"{counted(longer, 'turn')} of conversations: the prompt is what was said before and what the turn adds"
    return replace(columns, input_tokens=inputs, hash_counts=counts, hashes=hashes, notes=(*columns.notes, note))


def _blocks(columns: Columns, inputs: Ints) -> tuple[Ints | None, Ints | None]:
    """Hashes of the whole prompts: blocks that the first turn filled keep theirs, all others are the conversation's."""
    size, hashes, counts, session = columns.block_tokens, columns.hashes, columns.hash_counts, columns.session
    if size is None or hashes is None or counts is None or session is None:
        return counts, hashes
    starts = np.cumsum(counts) - counts
    own = [hashes[start : start + count] for start, count in zip(starts, counts, strict=True)]
    for turns in _conversations(session):
        first = turns[0]
        kept = own[first][: columns.input_tokens[first] // size]
        for place, turn in enumerate(turns[1:], start=1):
            filled, blocks = inputs[turn] // size, -(-inputs[turn] // size)
            new = mixed(np.arange(len(kept), filled), int(session[turn]))
            # A last block that is not filled is not what it will be when it is.
            rest = mixed(np.full(blocks - filled, -1 - place), int(session[turn]))
            own[turn] = np.concatenate([kept, new, rest])
    return np.array([len(one) for one in own], dtype=np.int64), np.concatenate(own)
