"""Azure LLM inference traces, 2023 and 2024 (Patel et al., Splitwise, 2024): CSV with a header.

Columns ``TIMESTAMP`` (UTC, fractions of up to nine digits, optionally with a zone), ``ContextTokens`` and
``GeneratedTokens``, in any order; further columns are ignored.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from autokv.workload.readers.reader import Columns, Row, checked, checked_columns

TIMESTAMP = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)?", re.ASCII
)
TOKENS = re.compile(r"[+-]?\d{1,18}", re.ASCII)
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class AzureReader:
    """Reads the Azure CSV format."""

    name = "azure"
    expects = "CSV with columns TIMESTAMP, ContextTokens, GeneratedTokens"
    has_header = True
    fields = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

    def recognizes(self, first_line: str) -> bool:
        """The header has the three columns."""
        return set(self.fields) <= set(_split(first_line))

    def row_parser(self, first_line: str) -> Callable[[str], Row]:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        header = _split(first_line)
        positions = [header.index(field) for field in self.fields]

        def parse(line: str) -> Row:
            values = _split(line)
            if len(values) != len(header):
                raise ValueError(f"{len(values)} columns instead of {len(header)}")
            arrival, *tokens = (values[position] for position in positions)
            return checked(Row(_nanoseconds(arrival), *map(_tokens, tokens)))

        return parse

    def columns(self, data: bytes) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        types = dict(zip(self.fields, (pa.string(), pa.int64(), pa.int64()), strict=True))
        options = pa.csv.ConvertOptions(include_columns=self.fields, column_types=types)
        table = pa.csv.read_csv(pa.BufferReader(data), convert_options=options)
        if any(table[field].null_count for field in self.fields):
            raise ValueError("missing values")
        timestamps, inputs, outputs = (table[field] for field in self.fields)
        return checked_columns(Columns(_all_nanoseconds(timestamps), inputs.to_numpy(), outputs.to_numpy()))


def _split(line: str) -> list[str]:
    try:
        return [value.strip() for value in next(csv.reader([line]), [])]
    except csv.Error:  # a field beyond the module's limit
        return [line]


def _tokens(text: str) -> int:
    if not TOKENS.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a number of tokens")
    return int(text)


def _nanoseconds(text: str) -> int:
    match = TIMESTAMP.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is not a timestamp")
    moment = datetime.fromisoformat(match["second"] + (match["zone"] or "Z"))
    return (moment - EPOCH) // timedelta(seconds=1) * 10**9 + int((match["fraction"] or "0").ljust(9, "0"))


def _all_nanoseconds(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    # Arrow alone would take a bare date too.
    if not pa.compute.all(pa.compute.match_substring_regex(texts, f"^({TIMESTAMP.pattern})$")).as_py():
        raise ValueError("not all are timestamps")
    try:
        moments = texts.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:  # they have a zone
        moments = texts.cast(pa.timestamp("ns", "UTC"))
    nanoseconds: NDArray[np.int64] = moments.cast(pa.int64()).to_numpy()
    return nanoseconds
