"""Published traces that are tables under fixed names, CSV or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autokv.workload.readers.columns import NONE, Columns, Row
from autokv.workload.readers.csv_rows import CsvFields, CsvReader
from autokv.workload.readers.json_rows import JsonFields, JsonLinesReader, JsonRows, number_in
from autokv.workload.readers.times import nanoseconds


@dataclass(frozen=True)
class MooncakeRows(JsonRows):
    """Rows of which some have a delay in place of a timestamp."""

    def row_of(self, record: Mapping[str, Any]) -> Row:
        if record.get("delay") is None or record.get("timestamp") is not None:
            return super().row_of(record)
        row = super().row_of({**record, "timestamp": 0})
        if row.session == NONE:
            raise ValueError("the timestamp is missing, and a delay needs a session_id")
        return row._replace(delay_ns=nanoseconds(number_in(record, "delay"), self.unit))

    def block(self, data: bytes) -> Columns:
        if self.fields.arrival is None and b'"delay"' in data:
            raise ValueError("delays are read row by row")
        return super().block(data)


AZURE = CsvReader(
    name="azure",
    expects="CSV with columns TIMESTAMP, ContextTokens, GeneratedTokens",
    fields=CsvFields(arrival="TIMESTAMP", input_tokens="ContextTokens", output_tokens="GeneratedTokens"),
    unit="iso",
)
"""Azure's LLM inference traces, 2023 and 2024 (Patel et al., Splitwise, 2024). Timestamps are UTC, with fractions of up
to nine digits, optionally with a zone."""

BURSTGPT = CsvReader(
    name="burstgpt",
    expects="CSV with columns Timestamp (s), Request tokens, Response tokens",
    fields=CsvFields(
        arrival="Timestamp", input_tokens="Request tokens", output_tokens="Response tokens", session="Session ID"
    ),
    unit="s",
    optional=("session",),
)
"""BurstGPT (Wang et al., 2024): a campus' calls of ChatGPT and GPT-4. ``Session ID`` is there from version 2 on, empty
for calls of the API. A call that failed has no response tokens, in version 3 no request tokens either."""

VIDUR = CsvReader(
    name="vidur",
    expects="CSV with columns num_prefill_tokens, num_decode_tokens and perhaps arrived_at (s)",
    fields=CsvFields(arrival="arrived_at", input_tokens="num_prefill_tokens", output_tokens="num_decode_tokens"),
    unit="s",
    optional=("arrival",),
)
"""Traces of the Vidur simulator (Agrawal et al., MLSys 2024); without ``arrived_at`` all requests arrive at once."""

MOONCAKE = JsonLinesReader(
    name="mooncake",
    expects="JSON lines with timestamp (ms), input_length, output_length",
    fields=JsonFields(
        arrival="timestamp",
        input_tokens="input_length",
        output_tokens="output_length",
        hash_ids="hash_ids",
        session="session_id",
    ),
    unit="ms",
    required=frozenset({"input_length", "output_length"}),
    block_tokens=512,
    # A Qwen-Bailian trace, with timestamps in seconds.
    foreign=frozenset({"chat_id"}),
    parser=MooncakeRows,
)
"""Mooncake's traces (Qin et al., FAST 2025), also replayed by vLLM, SGLang, Dynamo, aiperf and others.

``hash_ids``, if there, names the blocks of the prompt, alike for all requests: of 512 tokens in Mooncake's own traces,
of other sizes in those of engines. The size is told from the lengths. ``session_id`` names a conversation.

aiperf's traces of conversations have further turns without a timestamp, but with a ``delay`` (milliseconds) from the
end of the turn before. Their lengths are those of what is new in each turn: see :mod:`autokv.workload.readers.turns`.
"""

BAILIAN = JsonLinesReader(
    name="bailian",
    expects="JSON lines with chat_id, parent_chat_id, timestamp (s), input_length, output_length",
    fields=JsonFields(
        arrival="timestamp",
        input_tokens="input_length",
        output_tokens="output_length",
        number="chat_id",
        parent="parent_chat_id",
        turn="turn",
        hash_ids="hash_ids",
    ),
    unit="s",
    required=frozenset({"chat_id", "parent_chat_id", "timestamp", "input_length", "output_length"}),
    block_tokens=16,
)
"""Qwen-Bailian's traces (Wang et al., KVCache Cache in the Wild, ATC 2025): the keys of a Mooncake trace, but other
units. ``chat_id`` numbers the request, ``parent_chat_id`` is the one that it follows (-1: none), ``turn`` its place in
the conversation."""
