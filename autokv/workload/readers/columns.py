"""What readers make of a file: requests as columns, checked against the limits that every format shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 10_000_000
"""A request with more input or output tokens than this is taken for damage."""
MAX_ARRIVAL_NS = 7_000_000_000 * 10**9
"""Arrivals lie between the epoch (1970) and this, late in 2191; int64 nanoseconds hold it."""
NONE = -1
"""No session, no parent."""

PER_REQUEST = (
    "arrival_ns", "input_tokens", "output_tokens", "lines", "session", "parent", "turn", "delay_ns", "hash_counts"
)  # fmt: skip

Ints = NDArray[np.int64]


class Row(NamedTuple):
    """One request."""

    arrival_ns: int
    """Nanoseconds from any fixed start."""
    input_tokens: int
    output_tokens: int
    session: int = NONE
    """Its conversation, or, where a format links requests, the request's own number."""
    parent: int = NONE
    """The number of the request that it follows."""
    turn: int = 0
    """Its place in the conversation, from 1; 0 where the file does not say."""
    delay_ns: int = NONE
    """From the end of the turn before."""
    hashes: tuple[int, ...] = ()
    """Of the blocks of its prompt."""


FAILED = Row(0, 0, 0)
"""A call that failed, of which nothing else matters: it is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Requests in the order of the file, each column int64 [requests]; ``None`` where no row says anything."""

    arrival_ns: Ints
    input_tokens: Ints
    output_tokens: Ints
    lines: Ints
    """Of the file, from 1."""
    session: Ints | None = None
    parent: Ints | None = None
    turn: Ints | None = None
    delay_ns: Ints | None = None
    """Of requests that say how long after the end of the turn before they come."""
    hash_counts: Ints | None = None
    hashes: Ints | None = None
    """Shape [sum of ``hash_counts``]."""
    block_tokens: int | None = None
    """Tokens of a hashed block."""
    unit: str | None = None
    """In which the timestamps were read; ``None`` where there are none."""
    own_clocks: bool = False
    """Whether arrivals count from the start of each session."""
    notes: tuple[str, ...] = ()

    def where(self, kept: NDArray[np.bool_]) -> Columns:
        """The requests for which ``kept`` is true."""
        changed = {name: column[kept] for name in PER_REQUEST if (column := getattr(self, name)) is not None}
        if self.hash_counts is not None and self.hashes is not None:
            changed["hashes"] = self.hashes[np.repeat(kept, self.hash_counts)]
        return replace(self, **changed)

    def __len__(self) -> int:
        return len(self.arrival_ns)


def from_rows(rows: Sequence[Row], lines: Sequence[int]) -> Columns:
    """The rows as columns."""
    plain = np.array([row[:7] for row in rows], dtype=np.int64).reshape(-1, 7)
    arrival, inputs, outputs, session, parent, turn, delay = (column.copy() for column in plain.T)
    counts = np.array([len(row.hashes) for row in rows], dtype=np.int64)
    return Columns(
        arrival,
        inputs,
        outputs,
        np.array(lines, dtype=np.int64),
        session=session if (session != NONE).any() else None,
        parent=parent if (parent != NONE).any() else None,
        turn=turn if turn.any() else None,
        delay_ns=delay if (delay != NONE).any() else None,
        hash_counts=counts if counts.any() else None,
        hashes=np.array([value for row in rows for value in row.hashes], dtype=np.int64) if counts.any() else None,
    )


def concatenate(parts: Sequence[Columns]) -> Columns:
    """The parts, one behind the other; a column that only some have is filled, and one that says nothing is left out.

    What is not said of each request is not kept.
    """

    def filled(name: str, default: int) -> Ints | None:
        columns = [getattr(part, name) for part in parts]
        if all(column is None for column in columns):
            return None
        whole = np.concatenate(
            [np.full(len(part), default) if c is None else c for part, c in zip(parts, columns, strict=True)]
        )
        return whole if (whole != default).any() else None

    if not parts:
        return from_rows((), ())
    arrival, inputs, outputs, lines = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("arrival_ns", "input_tokens", "output_tokens", "lines")
    )
    hashes = [part.hashes for part in parts if part.hashes is not None]
    return Columns(
        arrival,
        inputs,
        outputs,
        lines,
        session=filled("session", NONE),
        parent=filled("parent", NONE),
        turn=filled("turn", 0),
        delay_ns=filled("delay_ns", NONE),
        hash_counts=filled("hash_counts", 0) if hashes else None,
        hashes=np.concatenate(hashes) if hashes else None,
    )


def checked(row: Row) -> Row:
    """The row, if its figures make sense. One without output tokens, a call that failed, may have no input either.

    Raises:
        ValueError: saying which does not.
    """
    for name, tokens, least in (
        ("input", row.input_tokens, min(1, row.output_tokens)),
        ("output", row.output_tokens, 0),
    ):
        if not least <= tokens <= MAX_TOKENS:
            raise ValueError(f"{str(tokens)[:20]} {name} tokens are not between {max(0, least)} and {MAX_TOKENS}")
    if not 0 <= row.arrival_ns <= MAX_ARRIVAL_NS:
        raise ValueError("the timestamp is out of range")
    if row.session < NONE or row.parent < NONE:
        raise ValueError("a number of a request is negative")
    if not NONE <= row.delay_ns <= MAX_ARRIVAL_NS:
        raise ValueError("the delay is out of range")
    if not 0 <= row.turn <= MAX_TOKENS:
        raise ValueError("the turn is out of range")
    return row


def check_columns(columns: Columns) -> None:
    """Pass exactly if every row would pass :func:`checked`.

    Raises:
        ValueError: some row would not.
    """
    bounds: tuple[tuple[Ints | None, int | Ints, int | None], ...] = (
        (columns.input_tokens, np.minimum(1, columns.output_tokens), MAX_TOKENS),
        (columns.output_tokens, 0, MAX_TOKENS),
        (columns.arrival_ns, 0, MAX_ARRIVAL_NS),
        (columns.session, NONE, None),
        (columns.parent, NONE, None),
        (columns.turn, 0, MAX_TOKENS),
    )
    for column, least, most in bounds:
        if column is None or not len(column):
            continue
        if (column < least).any() or (most is not None and column.max() > most):
            raise ValueError("values out of range")


def number_of(text: str) -> int:
    """A number from 0 for a session that is named in text: equal for equal text, else different but for 1 in 2**63."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little") >> 1


def mixed(values: Ints, salt: int) -> Ints:
    """Hashes of ``values`` that differ between salts (but for 1 in 2**64): mixed with the salt as splitmix64 does."""
    result = values.view(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 & (2**64 - 1))
    result = (result ^ (result >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    result = (result ^ (result >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (result ^ (result >> np.uint64(31))).view(np.int64)


def counted(count: int, thing: str) -> str:
    """``1 row``, ``2,000 rows``."""
    ending = "" if count == 1 else "es" if thing.endswith("h") else "s"
    return f"{count:,} {thing}{ending}"
