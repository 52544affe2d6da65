"""Qwen-Bailian traces (Wang et al., KVCache Cache in the Wild, ATC 2025): JSON lines.

The keys of a Mooncake trace, but ``timestamp`` in seconds and ``hash_ids`` of blocks of 16 tokens; ``chat_id`` numbers
the request, ``parent_chat_id`` is the one that it follows (-1: none), ``turn`` its place in the conversation.
"""

from __future__ import annotations

from autokv.workload.readers.json_rows import JsonFields, JsonLinesReader

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
