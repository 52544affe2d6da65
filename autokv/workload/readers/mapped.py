"""Tables: CSV, JSON lines or lists, and Parquet, with a column for each number of tokens.

Their columns are told by their names, of which :mod:`autokv.workload.readers.names` knows many, or named by the user.
In JSON a column may lie deeper: ``usage.prompt_tokens``. Arrivals are dates or numbers; numbers are seconds unless they
are so large that they can only be dates in a smaller unit, or their name ends in one, or another unit is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns
from autokv.workload.readers.csv_rows import CsvFields, CsvRows
from autokv.workload.readers.documents import documents
from autokv.workload.readers.json_rows import JsonFields, JsonRows
from autokv.workload.readers.names import FIELDS, REQUIRED, leaves, likely, stated_unit, understood
from autokv.workload.readers.opening import DELIMITERS, Opening, split
from autokv.workload.readers.reader import BadRows, ReadOptions, column_options, command
from autokv.workload.readers.times import DATES, TimeUnit, checked_unit, unit_of
from autokv.workload.source import Source


@dataclass(frozen=True)
class TableReader:
    """Reads the columns that the options name, else those that have one of the usual names."""

    name: str
    expects: str

    def recognizes(self, opening: Opening) -> bool:
        """Both numbers of tokens are there."""
        return understood(first_row(opening)) is not None

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`.

        Raises:
            WorkloadError: also where a field is unknown or missing, or the file lacks a column.
        """
        if options.columns:
            return _read(source, checked_mapping(options.columns), options, bad)
        found = understood(first_row(Opening(source.head))) or {}
        columns = _read(source, found, options, bad, no_tokens_failed=True)
        unit = "" if columns.unit is None or columns.unit == "iso" else f" in {columns.unit}"
        said = ", ".join(f"{field} is {name}{unit if field == 'arrival' else ''}" for field, name in found.items())
        return replace(columns, notes=(f"columns were told by their names: {said}", *columns.notes))


TABLE = TableReader(
    "table", "CSV, JSON lines or Parquet with columns such as timestamp, prompt_tokens, completion_tokens"
)
MAPPED = TableReader("mapped", "any CSV, JSON or Parquet, if its columns are named")
"""For a file whose columns are named; it is never told by content."""


def first_row(opening: Opening) -> dict[str, object]:
    """Column to its first value in the first rows of a table, so that a call that failed hides no column.

    Values of a CSV are text; ``None`` where none of the rows has one.
    """
    found: dict[str, object] = {}
    if opening.is_object or opening.is_list:
        for record in opening.records:
            for name, value in leaves(record):
                if found.get(name) is None:
                    found[name] = value
        return found
    header = opening.names(opening.delimiter)
    for line in opening.rows:
        for name, value in zip(header, split(line, opening.delimiter), strict=False):
            if not found.get(name):
                found[name] = value or None
    return found if opening.rows else dict.fromkeys(header)


def checked_mapping(columns: Mapping[str, str]) -> dict[str, str]:
    """The mapping, if its fields are the ones that there are.

    Raises:
        WorkloadError: a field is unknown, missing, or named twice.
    """
    known = ", ".join(FIELDS)
    for field in columns:
        if field not in FIELDS:
            raise WorkloadError(f"{field[:40]!r} is no field of a trace", field="columns", remedy=f"name {known}")
    for field in REQUIRED:
        if not columns.get(field):
            raise WorkloadError(
                f"{field} has no column", field="columns", remedy=f"name it too: `--column {field}=NAME`"
            )
    if len(set(columns.values())) < len(columns):
        raise WorkloadError("two fields have one column", field="columns", remedy="name a column for each")
    return dict(columns)


def date_options(values: Mapping[str, object], columns: Mapping[str, str]) -> list[str]:
    """The options that a table needs whose first date could begin with the month or with the day."""
    arrival = values.get(columns.get("arrival", ""))
    if not isinstance(arrival, str) or unit_of(arrival) is not None:
        return []
    first = DATES["mdy"].fullmatch(arrival.strip())
    return ["--time-unit", "dmy" if first is not None and int(first["month"]) > 12 else "mdy"]


def proposal(path: Path, opening: Opening) -> str:
    """The command that reads a table, as far as its columns can be guessed; what cannot is to be named by the user."""
    values = first_row(opening)
    columns = likely(values)
    if not all(field in columns for field in REQUIRED):
        columns = dict.fromkeys(REQUIRED, "NAME")
    return command(path, *column_options(columns), *date_options(values, columns))


def _read(
    source: Source, columns: Mapping[str, str], options: ReadOptions, bad: BadRows, *, no_tokens_failed: bool = False
) -> Columns:
    opening = Opening(source.head)
    where = f"{source.path}:{opening.first_line_number}"
    values = first_row(opening)
    if opening.is_object or opening.is_list:
        if opening.record is not None:
            _require(columns, list(values), where)
        unit = _unit(options.time_unit, values, columns, source)
        rows = JsonRows(JsonFields(**columns), unit, no_tokens_failed)
        return rows.read(source, bad) if opening.is_one_a_line else rows.read_records(documents(source, bad), bad)
    delimiter = next((mark for mark in DELIMITERS if set(columns.values()) <= set(opening.names(mark))), ",")
    header = opening.names(delimiter)
    _require(columns, header, where)
    unit = _unit(options.time_unit, values, columns, source)
    return CsvRows(tuple(header), CsvFields(**columns), unit, delimiter, no_tokens_failed).read(source, bad)


def _require(columns: Mapping[str, str], names: Sequence[str], where: str) -> None:
    for field, name in columns.items():
        if name not in names and (field in REQUIRED or field == "arrival"):
            raise WorkloadError(
                f"there is no column {name[:60]!r} for {field}",
                field=where,
                remedy=f"it has {', '.join(repr(name[:40]) for name in names[:20]) or 'none'}",
            )


def _unit(unit: TimeUnit | None, values: Mapping[str, object], columns: Mapping[str, str], source: Source) -> TimeUnit:
    """The unit that is given, else the one that the column's name or its first value says."""
    name = columns.get("arrival")
    if name is None:
        return "s"
    value = values.get(name)
    looks = unit_of(value if isinstance(value, str | int | float) else None)
    if looks is None:
        if unit not in DATES:
            asked = command(source.path, *column_options(columns), *date_options(values, columns))
            raise WorkloadError(
                f"{str(value)[:40]!r} could begin with the month or with the day",
                field=str(source.path),
                remedy=f"say which, mdy or dmy: {asked}",
            )
        return unit
    named = stated_unit(name) if looks == "s" else None
    return checked_unit(unit, cast(TimeUnit, named or looks), source.path.name)
