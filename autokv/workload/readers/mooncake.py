"""Mooncake traces (Qin et al., FAST 2025): JSON lines, also replayed by vLLM, SGLang and others.

Keys ``timestamp`` (milliseconds), ``input_length``, ``output_length``; ``hash_ids``, if there, names the blocks of 512
tokens of the prompt, alike for all requests.
"""

from __future__ import annotations

from autokv.workload.readers.json_rows import JsonFields, JsonLinesReader

MOONCAKE = JsonLinesReader(
    name="mooncake",
    expects="JSON lines with timestamp (ms), input_length, output_length",
    fields=JsonFields(
        arrival="timestamp", input_tokens="input_length", output_tokens="output_length", hash_ids="hash_ids"
    ),
    unit="ms",
    required=frozenset({"timestamp", "input_length", "output_length"}),
    block_tokens=512,
    # A Qwen-Bailian trace, with timestamps in seconds.
    foreign=frozenset({"chat_id"}),
)
