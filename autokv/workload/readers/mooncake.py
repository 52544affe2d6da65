"""Mooncake traces (Qin et al., FAST 2025): JSON lines, also replayed by vLLM, SGLang and others.

Fields ``timestamp`` (milliseconds), ``input_length``, ``output_length``; ``hash_ids`` and further ones are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from autokv.workload.readers.reader import MAX_ARRIVAL_NS, Columns, Row, checked, checked_columns

NS_PER_MS = 10**6


class MooncakeReader:
    """Reads the Mooncake JSON lines format."""

    name = "mooncake"
    expects = "JSON lines with timestamp (ms), input_length, output_length"
    has_header = False
    fields = ("timestamp", "input_length", "output_length")
    foreign = "chat_id"
    """Qwen-Bailian traces have the same three fields, but timestamps in seconds."""

    def recognizes(self, first_line: str) -> bool:
        """The first object has the three fields."""
        try:
            record = json.loads(first_line)
        except (ValueError, RecursionError):
            return False
        return isinstance(record, dict) and record.keys() >= set(self.fields) and self.foreign not in record

    def row_parser(self, first_line: str) -> Callable[[str], Row]:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        return self._parse

    def columns(self, data: bytes) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        schema = pa.schema(list(zip(self.fields, (pa.float64(), pa.int64(), pa.int64()), strict=True)))
        options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        table = pa.json.read_json(pa.BufferReader(data), parse_options=options)
        if any(table[field].null_count for field in self.fields):
            raise ValueError("missing values")
        milliseconds, inputs, outputs = (table[field].to_numpy() for field in self.fields)
        if not (np.abs(milliseconds) <= MAX_ARRIVAL_NS / NS_PER_MS).all():
            raise ValueError("timestamps out of range")
        return checked_columns(Columns(np.rint(milliseconds * NS_PER_MS).astype(np.int64), inputs, outputs))

    def _parse(self, line: str) -> Row:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004 - a bad line is a ValueError
        timestamp, inputs, outputs = (_number(record, field) for field in self.fields)
        if abs(timestamp) > MAX_ARRIVAL_NS / NS_PER_MS:
            raise ValueError("the timestamp is out of range")
        if inputs != int(inputs) or outputs != int(outputs):
            raise ValueError("a length is not an integer")
        return checked(Row(round(timestamp * NS_PER_MS), int(inputs), int(outputs)))


def _number(record: dict[str, Any], field: str) -> float:
    """The value of ``field``: an int or a finite float."""
    if field not in record:
        raise ValueError(f"{field} is missing")
    value = record[field]
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise ValueError(f"{field} {str(value)[:40]!r} is not a finite number")
