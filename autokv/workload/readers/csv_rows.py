"""CSV with a header: columns by name, in any order; further columns are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.csv

from autokv.workload.readers.arrow import TableFields, session_number
from autokv.workload.readers.columns import FAILED, Columns, Row
from autokv.workload.readers.lines import read_lines
from autokv.workload.readers.opening import Opening, split
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import TimeUnit, checked_unit, is_number, nanoseconds
from autokv.workload.source import Source


@dataclass(frozen=True)
class CsvFields(TableFields):
    """The names of the columns that are read."""

    @property
    def required(self) -> frozenset[str]:
        """The names that a header must have."""
        return frozenset(name for name in vars(self).values() if name is not None)

    def found_in(self, header: Sequence[str], optional: Sequence[str]) -> CsvFields:
        """These, without those of ``optional`` whose column the header lacks."""
        missing: dict[str, Any] = {name: None for name in optional if getattr(self, name) not in header}
        return replace(self, **missing)


@dataclass(frozen=True)
class CsvReader:
    """A format that is a CSV with these columns."""

    name: str
    expects: str
    fields: CsvFields
    unit: TimeUnit
    optional: tuple[str, ...] = ()
    """Fields that a file may lack."""

    def recognizes(self, opening: Opening) -> bool:
        """The header has the columns."""
        header = opening.names()
        return self.fields.found_in(header, self.optional).required <= set(header)

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        header = Opening(source.head).names()
        unit = checked_unit(options.time_unit, self.unit, self.name)
        return CsvRows(tuple(header), self.fields.found_in(header, self.optional), unit).read(source, bad)


@dataclass(frozen=True)
class CsvRows:
    """Parses the rows below one header."""

    header: tuple[str, ...]
    fields: CsvFields
    unit: TimeUnit
    delimiter: str = ","
    no_tokens_failed: bool = False
    """Whether a row without a number of output tokens is a call that failed, else it is bad."""

    def read(self, source: Source, bad: BadRows) -> Columns:
        """All rows of a file."""
        columns = read_lines(source, self, bad, header=True)
        return replace(columns, unit=None if self.fields.arrival is None else self.unit)

    def row(self, line: str) -> Row:
        values = split(line, self.delimiter)
        if len(values) != len(self.header):
            raise ValueError(f"{len(values)} columns instead of {len(self.header)}")

        def value(name: str) -> str:
            return values[self.header.index(name)]

        fields = self.fields
        if self.no_tokens_failed and not value(fields.output_tokens):
            return FAILED
        session = "" if fields.session is None else value(fields.session)
        return Row(
            0 if fields.arrival is None else nanoseconds(value(fields.arrival), self.unit),
            _tokens(value(fields.input_tokens)),
            _tokens(value(fields.output_tokens)),
            session=session_number(session),
        )

    def block(self, data: bytes) -> Columns:
        types = self.fields.types(self.unit)
        # By place: names may occur twice, and then the first counts.
        places = {name: str(self.header.index(name)) for name in types}
        table = pa.csv.open_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                column_names=[str(place) for place in range(len(self.header))],
                use_threads=False,
                block_size=len(data) + 1,
            ),
            parse_options=pa.csv.ParseOptions(delimiter=self.delimiter),
            convert_options=pa.csv.ConvertOptions(
                include_columns=list(places.values()), column_types={places[name]: types[name] for name in types}
            ),
        ).read_all()
        columns = {name: table[place] for name, place in places.items()}
        if any(column.null_count for name, column in columns.items() if name != self.fields.session):
            raise ValueError("missing values")
        return self.fields.columns(columns, self.unit)


def _tokens(text: str) -> int:
    if not is_number(text) or not float(text).is_integer():
        raise ValueError(f"{text[:40]!r} is not a number of tokens")
    return int(float(text))
