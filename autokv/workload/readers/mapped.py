"""A table of one's own: CSV or JSON lines whose columns the user names.

``columns`` maps ``input_tokens`` and ``output_tokens``, and where there are any ``arrival`` and ``session``, to the
names in the file. Arrivals are dates or numbers: seconds, unless another unit is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns
from autokv.workload.readers.csv_rows import CsvFields, CsvRows
from autokv.workload.readers.json_rows import JsonFields, JsonRows
from autokv.workload.readers.opening import DELIMITERS, Opening, split
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import TimeUnit, checked_unit, is_number
from autokv.workload.source import Source

REQUIRED = ("input_tokens", "output_tokens")
FIELDS = (*REQUIRED, "arrival", "session")


@dataclass(frozen=True)
class MappedReader:
    """Reads the columns that the options name."""

    name: ClassVar[str] = "mapped"
    expects: ClassVar[str] = "any CSV or JSON lines, if its columns are named"

    def recognizes(self, opening: Opening) -> bool:
        """Never by itself."""
        return False

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`.

        Raises:
            WorkloadError: also where a field is unknown or missing, or the file lacks a column.
        """
        columns = checked_mapping(options.columns)
        opening = Opening(source.head)
        where = f"{source.path}:{opening.first_line_number}"
        if opening.is_object:
            _require(columns, sorted(opening.keys), where)
            unit = _unit(options.time_unit, _first_value(opening, columns), source)
            return JsonRows(JsonFields(**columns), unit).read(source, bad)
        delimiter = next((mark for mark in DELIMITERS if set(columns.values()) <= set(opening.names(mark))), ",")
        header = opening.names(delimiter)
        _require(columns, header, where)
        lines = opening.text.split("\n", 2)
        first = dict(zip(header, split(lines[1], delimiter), strict=False)) if len(lines) > 1 else {}
        unit = _unit(options.time_unit, first.get(columns.get("arrival", "")), source)
        return CsvRows(tuple(header), CsvFields(**columns), unit, delimiter).read(source, bad)


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
            raise WorkloadError(f"{field} has no column", field="columns", remedy=f"name the column of {field}")
    if len(set(columns.values())) < len(columns):
        raise WorkloadError("two fields have one column", field="columns", remedy="name a column for each")
    return dict(columns)


def _require(columns: Mapping[str, str], names: Sequence[str], where: str) -> None:
    for field, name in columns.items():
        if name not in names:
            raise WorkloadError(
                f"there is no column {name[:60]!r} for {field}",
                field=where,
                remedy=f"it has {', '.join(repr(name[:40]) for name in names[:20]) or 'none'}",
            )


def _unit(unit: TimeUnit | None, first: str | None, source: Source) -> TimeUnit:
    """The unit that is given, else seconds for a number and dates for a text."""
    default: TimeUnit = "s" if first is None or is_number(first) else "iso"
    return checked_unit(unit, default, source.path.name)


def _first_value(opening: Opening, columns: Mapping[str, str]) -> str | None:
    """The first row's arrival as text; ``None`` for a number."""
    try:
        record = json.loads(opening.first_line)
    except (ValueError, RecursionError):
        return None
    value = record.get(columns.get("arrival", "")) if isinstance(record, dict) else None
    return value if isinstance(value, str) else None
