"""By which names logs and tools call the columns of a request: what a file's own names mean.

OpenAI's and Anthropic's usage, LiteLLM, Langfuse, OpenTelemetry's ``gen_ai`` and OpenInference's attributes, and the
records of aiperf, guidellm, LLMServingSim and Vidur are among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from autokv.workload.readers.times import is_number

FIELDS = ("arrival", "input_tokens", "output_tokens", "session")
"""What a table may say of a request."""
REQUIRED = ("input_tokens", "output_tokens")
NAMES: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (
        "input_tokens", "prompt_tokens", "context_tokens", "num_prefill_tokens", "prefill_tokens", "num_prompt_tokens",
        "num_input_tokens", "request_tokens", "input_toks", "prompt_toks", "input_length", "prompt_length", "input_len",
        "prompt_len", "input_sequence_length", "prompt_token_count", "input_token_count", "n_prompt_tokens",
        "token_count.prompt",
        "usage.input", "usage_details.input", "input_usage",
    ),
    "output_tokens": (
        "output_tokens", "completion_tokens", "generated_tokens", "num_decode_tokens", "decode_tokens",
        "num_generation_tokens", "generation_tokens", "num_completion_tokens", "num_output_tokens", "response_tokens",
        "output_toks", "completion_toks", "output_length", "completion_length", "output_len", "completion_len",
        "output_sequence_length", "candidates_token_count", "completion_token_count", "output_token_count",
        "n_completion_tokens", "token_count.completion", "usage.output", "usage_details.output", "output_usage",
    ),
    "arrival": (
        "timestamp", "arrival", "arrival_time", "arrived_at", "arrival_timestamp", "request_start",
        "request_start_time", "start_time", "start_time_unix", "request_time", "request_timestamp", "started_at",
        "created_at", "created", "time", "datetime", "date", "ts", "date_time", "tstamp", "event_time",
    ),
    "session": (
        "session_id", "x_correlation_id", "conversation_id", "thread_id", "trace_session_id", "session",
    ),
}  # fmt: skip
"""Each field's names, the surest first; capitals, blanks and marks between words do not matter."""
UNITS = re.compile(r"[ _]?(unix)?[ _]?(?P<unit>nano|ns|ms|us|sec|seconds|s)$", re.IGNORECASE)
"""A unit at the end of a name."""
HINTS = {
    "arrival": re.compile(r"time|date|arriv|start|^ts$|^t$|^when$", re.IGNORECASE),
    "input_tokens": re.compile(r"input|prompt|prefill|context|request|^in$|^isl$", re.IGNORECASE),
    "output_tokens": re.compile(
        r"output|complet|gener|decode|respon|answer|^out$|^osl$|(^|[^a-z])gen([^a-z]|$)", re.IGNORECASE
    ),
}
"""Names that may well be the field's."""
MAX_DEPTH = 8
MISSING = object()


def understood(values: Mapping[str, object]) -> dict[str, str] | None:
    """Field to column, of a table whose first row is ``values``; ``None`` unless both numbers of tokens are there."""
    columns = {field: name for field in FIELDS if (name := _column(field, values)) is not None}
    return columns if all(field in columns for field in REQUIRED) else None


def likely(values: Mapping[str, object]) -> dict[str, str]:
    """Field to the column that it may be, of those that there are: good enough to propose, not to go by."""
    found: dict[str, str] = {}
    for field in ("input_tokens", "output_tokens", "arrival"):
        name = _column(field, values)
        if name is None:
            hint = HINTS[field]
            fits = (
                other
                for other, value in values.items()
                if hint.search(other) and other not in found.values() and (field == "arrival" or _is_count(value))
            )
            name = next(fits, None)
        if name is not None:
            found[field] = name
    return found


def stated_unit(name: str) -> str | None:
    """The unit of numbers that a column's name ends in, such as ``request_start_ns``."""
    match = UNITS.search(name)
    if match is None or _plain(name) in map(_plain, NAMES["arrival"]):
        return None
    unit = match["unit"].lower()
    return {"nano": "ns", "sec": "s", "seconds": "s"}.get(unit, unit)


def leaves(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """The values of a JSON object that are neither objects nor lists, by their path: ``usage.prompt_tokens``."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            if depth < MAX_DEPTH:
                yield from leaves(value, f"{prefix}{key}.", depth + 1)
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value


def value_at(record: Mapping[str, Any], path: str) -> object:
    """What a JSON object has at a path of :func:`leaves`, :data:`MISSING` for nothing; a key may hold dots itself."""
    if path in record:
        return record[path]
    dot = path.find(".")
    while dot >= 0:
        inner = record.get(path[:dot])
        if isinstance(inner, Mapping) and (value := value_at(inner, path[dot + 1 :])) is not MISSING:
            return value
        dot = path.find(".", dot + 1)
    return MISSING


def _column(field: str, values: Mapping[str, object]) -> str | None:
    """The column that is named as a field is: the least nested, of those the one with the surest name."""
    ranks = {_plain(name): rank for rank, name in enumerate(NAMES[field])}
    found = []
    for place, (name, value) in enumerate(values.items()):
        fits = value is not None and (field not in REQUIRED or _is_count(value))
        rank = min((ranks[form] for form in _forms(name, field) if form in ranks), default=None)
        if rank is not None and (fits or value is None):
            found.append((not fits, name.count("."), rank, place, name))
    return min(found)[-1] if found else None


def _forms(name: str, field: str) -> Iterator[str]:
    """The ways in which a name may be meant: whole, or its last parts alone; without a ``value`` or a unit."""
    parts = name.split(".")
    if parts[-1] == "value":
        parts = parts[:-1]
    for length in (1, 2):
        form = ".".join(parts[-length:])
        yield _plain(form)
        if field == "arrival":
            yield _plain(UNITS.sub("", form))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_count(value: object) -> bool:
    """Whether it is a number of tokens, or could be."""
    if isinstance(value, str):
        return value.strip() == "" or (is_number(value.strip()) and float(value).is_integer())
    return type(value) is int or (type(value) is float and value.is_integer())
