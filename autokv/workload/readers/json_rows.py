"""JSON lines: one object a request; further keys are ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.json

from autokv.workload.readers.arrow import TableFields, integers, ragged, session_number
from autokv.workload.readers.blocks import in_blocks
from autokv.workload.readers.columns import FAILED, NONE, Columns, Row, checked, from_rows, number_of
from autokv.workload.readers.lines import read_lines
from autokv.workload.readers.names import MISSING, value_at
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import DATES, TimeUnit, checked_unit, is_number, nanoseconds
from autokv.workload.readers.turns import following
from autokv.workload.source import Source

INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class JsonFields(TableFields):
    """The keys that are read. ``turn`` and ``hash_ids`` may be missing or null in a row."""

    number: str | None = None
    """The request's own number, to which the ``parent`` of others refers."""
    parent: str | None = None
    turn: str | None = None
    hash_ids: str | None = None


@dataclass(frozen=True)
class JsonRows:
    """Parses lines with the keys of ``fields``."""

    fields: JsonFields
    unit: TimeUnit
    no_tokens_failed: bool = False
    """Whether a row without a number of output tokens is a call that failed, else it is bad."""

    def read(self, source: Source, bad: BadRows) -> Columns:
        """All rows of a file, one a line."""
        return self._with_unit(read_lines(source, self, bad, header=False))

    def read_records(self, records: Iterable[tuple[int, Mapping[str, Any]]], bad: BadRows) -> Columns:
        """Rows that are read already, each with the number of its line."""
        rows: list[Row] = []
        lines: list[int] = []
        for line, record in records:
            try:
                rows.append(checked(self.row_of(record)))
                lines.append(line)
            except ValueError as error:
                bad.add(line, str(error))
        return self._with_unit(from_rows(rows, lines))

    def _with_unit(self, columns: Columns) -> Columns:
        return replace(columns, unit=None if self.fields.arrival is None else self.unit)

    def row(self, line: str) -> Row:
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
        if self.no_tokens_failed and value_at(record, fields.output_tokens) in (None, "", MISSING):
            return FAILED
        turn = None if fields.turn is None else record.get(fields.turn)
        hashes = None if fields.hash_ids is None else record.get(fields.hash_ids)
        session = None if fields.session is None else value_at(record, fields.session)
        number = NONE if session in (None, MISSING) else session_number(session)
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
        fields = self.fields
        kinds = fields.types(self.unit)
        kinds |= {name: pa.int64() for name in (fields.number, fields.parent, fields.turn) if name is not None}
        if fields.hash_ids is not None:
            kinds[fields.hash_ids] = pa.list_(pa.int64())
        if any("." in name for name in kinds):
            raise ValueError("a path is looked up row by row")
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
        columns = fields.columns(table, self.unit)
        counts, hashes = (None, None) if fields.hash_ids is None else ragged(table[fields.hash_ids])
        return replace(
            columns,
            session=columns.session if fields.number is None else integers(table[fields.number]),
            parent=None if fields.parent is None else integers(table[fields.parent]),
            turn=None if fields.turn is None else integers(table[fields.turn]),
            hash_counts=counts,
            hashes=hashes,
        )

    def _arrival(self, record: Mapping[str, Any], name: str) -> int:
        if self.unit not in DATES:
            return nanoseconds(number_in(record, name), self.unit)
        value = value_at(record, name)
        if not isinstance(value, str):
            raise ValueError(f"{name} is not text")  # noqa: TRY004 - a bad line is a ValueError
        return nanoseconds(value, self.unit)


@dataclass(frozen=True)
class JsonLinesReader:
    """A format of JSON lines with these keys."""

    name: str
    expects: str
    fields: JsonFields
    unit: TimeUnit
    required: frozenset[str]
    block_tokens: int | None = None
    """Tokens of a hashed block of a prompt, where its hashes do not tell another size."""
    foreign: frozenset[str] = frozenset()
    """Keys by which another format with the same keys is told apart."""
    parser: type[JsonRows] = JsonRows

    def recognizes(self, opening: Opening) -> bool:
        """The first object has the required keys and none of the foreign ones."""
        return opening.is_object and opening.keys >= self.required and not opening.keys & self.foreign

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        unit = checked_unit(options.time_unit, self.unit, self.name)
        timed = self.fields.arrival in Opening(source.head).keys
        fields = self.fields if timed else replace(self.fields, arrival=None)
        columns = self.parser(fields, unit).read(source, bad)
        if self.block_tokens is not None:
            columns = in_blocks(columns, self.block_tokens, options, source)
        return following(columns)


def _integer(value: object, name: str) -> int:
    if type(value) is not int or value not in INT64:
        raise ValueError(f"{name} {str(value)[:40]!r} is not an integer")
    return value


def number_in(record: Mapping[str, Any], name: str) -> float:
    """The value of ``name``, a key or a path: an int or a finite float, also one that is written as text.

    Raises:
        ValueError: it is missing or something else.
    """
    value = value_at(record, name)
    if value is MISSING:
        raise ValueError(f"{name} is missing")
    if isinstance(value, str) and is_number(value.strip()):
        value = int(value) if value.strip().isdecimal() else float(value)
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
    """A list of integers of 64 bits, with or without a sign, or of texts; each as an integer with a sign.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(values, list | tuple):
        raise ValueError("the hashes are not a list")  # noqa: TRY004 - a bad line is a ValueError
    return tuple(_hash(value) for value in values)


def _hash(value: object) -> int:
    if isinstance(value, str):
        return number_of(value)
    if type(value) is not int or not INT64.start <= value < 2 * INT64.stop:
        raise ValueError("the hashes are not a list of integers of 64 bits or of texts")
    return value if value < INT64.stop else value - 2 * INT64.stop
