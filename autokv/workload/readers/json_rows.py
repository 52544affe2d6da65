"""JSON lines: one object a request; further keys are ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from autokv.workload.readers.arrow import integers, ragged, session_number, session_numbers, whole_numbers
from autokv.workload.readers.columns import NONE, Columns, Row
from autokv.workload.readers.lines import read_lines
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import TimeUnit, all_nanoseconds, arrow_type, checked_unit, nanoseconds
from autokv.workload.source import Source

INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class JsonFields:
    """The keys that are read. ``turn`` and ``hash_ids`` may be missing or null in a row."""

    input_tokens: str
    output_tokens: str
    arrival: str | None = None
    number: str | None = None
    """The request's own number, to which the ``parent`` of others refers."""
    parent: str | None = None
    turn: str | None = None
    hash_ids: str | None = None
    session: str | None = None
    """A conversation's name, text; may be missing or null in a row."""


@dataclass(frozen=True)
class JsonLinesReader:
    """A format of JSON lines with these keys."""

    name: str
    expects: str
    fields: JsonFields
    unit: TimeUnit
    required: frozenset[str]
    block_tokens: int | None = None
    """Tokens of a hashed block of a prompt."""
    foreign: frozenset[str] = frozenset()
    """Keys by which another format with the same keys is told apart."""

    def recognizes(self, opening: Opening) -> bool:
        """The first object has the required keys and none of the foreign ones."""
        return opening.is_object and opening.keys >= self.required and not opening.keys & self.foreign

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        unit = checked_unit(options.time_unit, self.unit, self.name)
        columns = JsonRows(self.fields, unit).read(source, bad)
        return columns if columns.hashes is None else replace(columns, block_tokens=self.block_tokens)


@dataclass(frozen=True)
class JsonRows:
    """Parses lines with the keys of ``fields``."""

    fields: JsonFields
    unit: TimeUnit
    least_output: int = 1

    def read(self, source: Source, bad: BadRows) -> Columns:
        """All rows of a file."""
        columns = read_lines(source, self, bad, header=False)
        return replace(columns, unit=None if self.fields.arrival is None else self.unit)

    def row(self, line: str) -> Row:
        """See :class:`~autokv.workload.readers.lines.RowParser`."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - a bad line is a ValueError
        return self.row_of(record)

    def row_of(self, record: Mapping[str, Any]) -> Row:
        """One object.

        Raises:
            ValueError: with the reason why it is no request.
        """
        fields = self.fields
        turn = None if fields.turn is None else record.get(fields.turn)
        hashes = None if fields.hash_ids is None else record.get(fields.hash_ids)
        session = None if fields.session is None else record.get(fields.session)
        number = NONE if session is None else session_number(_text(session, "the session"))
        return Row(
            0 if fields.arrival is None else self._arrival(record, fields.arrival),
            tokens(record, fields.input_tokens),
            tokens(record, fields.output_tokens),
            session=number if fields.number is None else _integer(record.get(fields.number), fields.number),
            parent=NONE if fields.parent is None else _integer(record.get(fields.parent), fields.parent),
            turn=0 if turn is None else _integer(turn, "turn"),
            hashes=() if hashes is None else hash_ids(hashes),
        )

    def block(self, data: bytes) -> Columns:
        """See :class:`~autokv.workload.readers.lines.RowParser`."""
        fields = self.fields
        kinds = {
            fields.arrival: arrow_type(self.unit),
            fields.input_tokens: pa.float64(),
            fields.output_tokens: pa.float64(),
            fields.number: pa.int64(),
            fields.parent: pa.int64(),
            fields.turn: pa.int64(),
            fields.hash_ids: pa.list_(pa.int64()),
            fields.session: pa.string(),
        }
        kinds.pop(None, None)
        table = pa.json.read_json(
            pa.BufferReader(data),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=pa.schema(list(kinds.items())), unexpected_field_behavior="ignore"
            ),
        )
        may_lack = {fields.turn, fields.hash_ids, fields.session}
        if any(table[name].null_count for name in kinds if name not in may_lack):
            raise ValueError("missing values")
        counts, hashes = (None, None) if fields.hash_ids is None else ragged(table[fields.hash_ids])
        session = None if fields.number is None else integers(table[fields.number])
        if fields.session is not None:
            session = session_numbers(table[fields.session])
        return Columns(
            np.zeros(len(table), np.int64)
            if fields.arrival is None
            else all_nanoseconds(table[fields.arrival], self.unit),
            whole_numbers(table[fields.input_tokens]),
            whole_numbers(table[fields.output_tokens]),
            lines=np.empty(0, np.int64),
            session=session,
            parent=None if fields.parent is None else integers(table[fields.parent]),
            turn=None if fields.turn is None else integers(table[fields.turn]),
            hash_counts=counts,
            hashes=hashes,
        )

    def _arrival(self, record: Mapping[str, Any], name: str) -> int:
        if self.unit != "iso":
            return nanoseconds(number_in(record, name), self.unit)
        return nanoseconds(_text(record.get(name), name), self.unit)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")  # noqa: TRY004 - a bad line is a ValueError
    return value


def _integer(value: object, name: str) -> int:
    if type(value) is not int or value not in INT64:
        raise ValueError(f"{name} {str(value)[:40]!r} is not an integer")
    return value


def number_in(record: Mapping[str, Any], name: str) -> float:
    """The value of ``name``: an int or a finite float.

    Raises:
        ValueError: it is missing or something else.
    """
    if name not in record:
        raise ValueError(f"{name} is missing")
    value = record[name]
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise ValueError(f"{name} {str(value)[:40]!r} is not a finite number")


def tokens(record: Mapping[str, Any], name: str) -> int:
    """The value of ``name``: a whole number.

    Raises:
        ValueError: it is missing or something else.
    """
    value = number_in(record, name)
    if value != int(value):
        raise ValueError(f"{name} {value!r} is not a whole number")
    return int(value)


def hash_ids(values: object) -> tuple[int, ...]:
    """A list of integers of 64 bits.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(values, list | tuple) or not all(type(value) is int and value in INT64 for value in values):
        raise ValueError("the hashes are not a list of integers of 64 bits")
    return tuple(values)
