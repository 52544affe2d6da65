"""Sessions of coding agents, recorded by WEKA's KV cache tester: JSON objects, one, a list or one a line.

A session has ``block_size`` (tokens of a block, 64 if it does not say), ``hash_id_scope`` (``local``, the default:
equal hashes of two sessions are different blocks; or ``global``) and ``requests``: ``t`` (seconds from the start of the
session), ``in``, ``out``, ``hash_ids``. An entry of type ``subagent`` holds the requests of a session of its own, which
shares the blocks; their times count from the entry's, or in other recordings from the outer session's start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

from autokv.workload.readers.blocks import MAX_BLOCK_TOKENS
from autokv.workload.readers.columns import Columns, Row, checked, concatenate, from_rows, mixed
from autokv.workload.readers.documents import documents
from autokv.workload.readers.json_rows import hash_ids, number_in, tokens
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import TimeUnit, checked_unit, nanoseconds
from autokv.workload.source import Source

BLOCK_TOKENS = 64
MAX_DEPTH = 16
"""Subagents of subagents."""


@dataclass(frozen=True)
class WekaReader:
    """Reads sessions of coding agents."""

    name: ClassVar[str] = "weka"
    expects: ClassVar[str] = "JSON sessions with requests of t, in, out"

    def recognizes(self, opening: Opening) -> bool:
        """The first object has requests."""
        return "requests" in opening.keys

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        unit = checked_unit(options.time_unit, "s", self.name)
        numbers = count()
        parts: list[Columns] = []
        block_tokens: int | None = None
        for index, (line, session) in enumerate(documents(source, bad)):
            try:
                block_tokens = _block_tokens(session, block_tokens)
                entries = _entries(session)
            except ValueError as error:
                bad.add(line, str(error))
                continue
            rows = list(_Walk(unit, numbers, line, bad).rows(entries))
            columns = from_rows(rows, [line] * len(rows))
            if columns.hashes is not None and session.get("hash_id_scope") != "global":
                columns = replace(columns, hashes=mixed(columns.hashes, index))
            parts.append(columns)
        notes: tuple[str, ...] = ()
        if len(parts) > 1:
            notes = (f"{len(parts)} sessions have clocks of their own: all of them begin at 0",)
        return replace(concatenate(parts), block_tokens=block_tokens, unit=unit, own_clocks=True, notes=notes)


def _block_tokens(session: dict[str, Any], first: int | None) -> int:
    """Tokens of its blocks, if they are those of the first session."""
    size = session.get("block_size", BLOCK_TOKENS)
    if type(size) is not int or not 1 <= size <= MAX_BLOCK_TOKENS:
        raise ValueError(f"block_size {str(size)[:40]!r} is not a number of tokens")
    if first not in (None, size):
        raise ValueError(f"its blocks have {size} tokens, those of the first session {first}")
    return size


def _entries(holder: dict[str, Any]) -> list[Any]:
    entries = holder.get("requests")
    if not isinstance(entries, list):
        raise ValueError("requests is not a list")  # noqa: TRY004 - a bad session is a ValueError
    return entries


@dataclass(frozen=True, slots=True)
class _Walk:
    """Through one session and its subagents."""

    unit: TimeUnit
    numbers: Iterator[int]
    line: int
    bad: BadRows

    def rows(self, entries: list[Any], start: float = 0.0, depth: int = 0) -> Iterator[Row]:
        """The requests; ``start`` is added to their times."""
        session = next(self.numbers)
        for entry in entries:
            try:
                if _kind(entry) != "subagent":
                    yield self._request(entry, start, session)
                    continue
                inner, inner_start = _subagent(entry, start, depth)
            except (ValueError, OverflowError) as error:
                self.bad.add(self.line, str(error))
                continue
            yield from self.rows(inner, inner_start, depth + 1)

    def _request(self, entry: dict[str, Any], start: float, session: int) -> Row:
        hashes = entry.get("hash_ids")
        row = Row(
            nanoseconds(start + number_in(entry, "t"), self.unit),
            tokens(entry, "in"),
            tokens(entry, "out"),
            session=session,
            hashes=() if hashes is None else hash_ids(hashes),
        )
        return checked(row)


def _kind(entry: object) -> object:
    if not isinstance(entry, dict):
        raise ValueError("a request is not a JSON object")  # noqa: TRY004 - a bad request is a ValueError
    return entry.get("type")


def _subagent(entry: dict[str, Any], start: float, depth: int) -> tuple[list[Any], float]:
    """Its entries, and what is to be added to their times."""
    inner, time = _entries(entry), number_in(entry, "t")
    if depth == MAX_DEPTH:
        raise ValueError(f"subagents are nested more than {MAX_DEPTH} deep")
    return inner, start + time if _first_time(inner) < time else start


def _first_time(entries: list[Any]) -> float:
    """The earliest time of the entries: before that of their subagent, they count from it."""
    times = [entry["t"] for entry in entries if isinstance(entry, dict) and type(entry.get("t")) in (int, float)]
    return min(times, default=0.0)
