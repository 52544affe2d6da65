"""From the columns of a file to a trace: sorted by arrival, with prefixes, conversations and turns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from autokv.workload.readers.columns import NONE, Columns, Ints, counted
from autokv.workload.trace import PrefixBlocks, RejectedRows, WorkloadTrace
from autokv.workload.units import unit_notes


def assemble(name: str, form: str, columns: Columns, rejected: RejectedRows) -> WorkloadTrace:
    """The trace of at least one request. What was done to the rows, or looks wrong with them, is in its notes."""
    order = np.argsort(columns.arrival_ns, kind="stable")
    arrival = columns.arrival_ns[order]
    session = None if columns.session is None else _conversations(columns.session, columns.parent)[order]
    notes = [*columns.notes, *_disorder(columns), *unit_notes(columns)]
    prefixes = None
    if columns.hashes is not None and columns.hash_counts is not None and columns.block_tokens is not None:
        prefixes, trimmed = _prefixes(columns, columns.hash_counts, columns.hashes, columns.block_tokens)
        prefixes = prefixes.take(order)
        if trimmed:
            notes.append(
                f"hashes left out: {counted(trimmed, 'prompt')} with more of them than blocks of "
                f"{columns.block_tokens} tokens"
            )
    return WorkloadTrace(
        name=name,
        format=form,
        arrival_s=(arrival - arrival[0]) / 1e9,
        input_tokens=columns.input_tokens[order],
        output_tokens=columns.output_tokens[order],
        rejected=rejected,
        prefixes=prefixes,
        session=session,
        delay_s=None if columns.delay_ns is None else _delays(columns.delay_ns[order]),
        turn=None if session is None else _turns(session, None if columns.turn is None else columns.turn[order]),
        notes=tuple(notes),
        lines=columns.lines[order],
    )


def _delays(delay_ns: Ints) -> NDArray[np.float64]:
    """Seconds, NaN for a request without."""
    return np.where(delay_ns == NONE, np.nan, delay_ns / 1e9)


def _disorder(columns: Columns) -> Iterator[str]:
    """A sentence, if arrivals do not ascend."""
    behind = np.flatnonzero(columns.arrival_ns < np.maximum.accumulate(columns.arrival_ns))
    # Sessions that have clocks of their own lie one behind the other.
    if len(behind) and not columns.own_clocks:
        yield (
            f"sorted by arrival: {counted(len(behind), 'row')} out of order, the first in line "
            f"{columns.lines[behind[0]]}"
        )


def _prefixes(columns: Columns, counts: Ints, hashes: Ints, block_tokens: int) -> tuple[PrefixBlocks, int]:
    """The blocks, and how many prompts had more of them than their tokens fill."""
    most = -(-columns.input_tokens // block_tokens)
    trimmed = int((counts > most).sum())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if trimmed:
        place = np.arange(len(hashes)) - np.repeat(offsets[:-1], counts)
        hashes = hashes[place < np.repeat(most, counts)]
        offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, most))])
    return PrefixBlocks(block_tokens, offsets, hashes), trimmed


def _conversations(numbers: Ints, parents: Ints | None) -> Ints:
    """A number from 0 for each conversation.

    Without ``parents``, requests with one number are one conversation; with them, a request belongs to that of its
    parent, and requests whose parent is not there belong together. A request without a number is one of its own.
    """
    if parents is None:
        keys = numbers
    else:
        names, first = np.unique(numbers, return_index=True)
        place = np.searchsorted(names, parents).clip(max=len(names) - 1)
        has_parent = (parents != NONE) & (names[place] == parents)
        above = np.where(has_parent, first[place], np.arange(len(numbers)))
        # Twice as far up each time; a circle of parents, which only damage makes, ends somewhere in itself.
        for _ in range(len(numbers).bit_length()):
            above = above[above]
        keys = np.where(parents[above] != NONE, parents[above], numbers[above])
    found, result = np.unique(keys, return_inverse=True)
    alone = np.flatnonzero(keys == NONE)
    result[alone] = len(found) + np.arange(len(alone))
    return np.unique(result, return_inverse=True)[1].astype(np.int64)


def _turns(session: Ints, stated: Ints | None) -> Ints:
    """What the file states of every request, else the order of a conversation's requests in time."""
    if stated is not None and stated.all():
        return stated
    order = np.argsort(session, kind="stable")
    ordered = session[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    turns = np.empty(len(session), dtype=np.int64)
    turns[order] = np.arange(len(session)) - np.repeat(starts, np.diff(starts, append=len(session))) + 1
    return turns
