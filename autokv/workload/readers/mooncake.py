"""Mooncake traces (Qin et al., FAST 2025): JSON lines, also replayed by vLLM, SGLang, Dynamo, aiperf and others.

Keys ``timestamp`` (milliseconds), ``input_length``, ``output_length``; ``hash_ids``, if there, names the blocks of the
prompt, alike for all requests: of 512 tokens in Mooncake's own traces, of other sizes in those of engines. The size is
told from the lengths. ``session_id`` names a conversation.

aiperf's traces of conversations have further turns without a timestamp, but with a ``delay`` (milliseconds) from the
end of the turn before. Their lengths are those of what is new in each turn: see
:mod:`autokv.workload.readers.turns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autokv.workload.readers.columns import NONE, Columns, Row
from autokv.workload.readers.json_rows import JsonFields, JsonLinesReader, JsonRows, number_in
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions
from autokv.workload.readers.times import TimeUnit, nanoseconds
from autokv.workload.readers.turns import following
from autokv.workload.source import Source

FIELDS = JsonFields(
    arrival="timestamp",
    input_tokens="input_length",
    output_tokens="output_length",
    hash_ids="hash_ids",
    session="session_id",
)


@dataclass(frozen=True)
class MooncakeReader(JsonLinesReader):
    """Reads the Mooncake format."""

    def rows(self, opening: Opening, unit: TimeUnit) -> JsonRows:
        """See :class:`~autokv.workload.readers.json_rows.JsonLinesReader`."""
        fields = self.fields if "timestamp" in opening.keys else replace(self.fields, arrival=None)
        return MooncakeRows(fields, unit)

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`."""
        return following(super().read(source, options, bad))


@dataclass(frozen=True)
class MooncakeRows(JsonRows):
    """Rows of which some have a delay in place of a timestamp."""

    def row_of(self, record: Mapping[str, Any]) -> Row:
        """See :class:`~autokv.workload.readers.json_rows.JsonRows`."""
        if record.get("delay") is None or record.get("timestamp") is not None:
            return super().row_of(record)
        row = super().row_of({**record, "timestamp": 0})
        if row.session == NONE:
            raise ValueError("the timestamp is missing, and a delay needs a session_id")
        return row._replace(delay_ns=nanoseconds(number_in(record, "delay"), self.unit))

    def block(self, data: bytes) -> Columns:
        """See :class:`~autokv.workload.readers.lines.RowParser`."""
        if self.fields.arrival is None and b'"delay"' in data:
            raise ValueError("delays are read row by row")
        return super().block(data)


MOONCAKE = MooncakeReader(
    name="mooncake",
    expects="JSON lines with timestamp (ms), input_length, output_length",
    fields=FIELDS,
    unit="ms",
    required=frozenset({"input_length", "output_length"}),
    block_tokens=512,
    # A Qwen-Bailian trace, with timestamps in seconds.
    foreign=frozenset({"chat_id"}),
)
