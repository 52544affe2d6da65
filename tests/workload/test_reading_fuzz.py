"""Whatever a file holds, reading it gives a trace or one line; lines parsed at once and one by one agree."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.readers.csv_rows import CsvRows
from autokv.workload.readers.json_rows import JsonRows

BEGINNINGS = [
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
    b"arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,5,6\n",
    b"Timestamp,Session ID,Model,Request tokens,Response tokens\n5,a,m,5,6\n",
    b'{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [1]}\n',
    b'{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0, "input_length": 5, "output_length": 6, "turn": 1}\n',
    b'[{"id": "a", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]',
    b'{"input_length": 5, "output_length": 6, "session_id": "a"}\n{"input_length": 7, "output_length": 8, '
    b'"session_id": "a", "delay": 5}\n',
    b"timestamp;prompt_tokens;completion_tokens\n2024-01-01 00:00:00+00;5;6\n",
    b'{"created": 1711111111, "usage": {"prompt_tokens": 5, "completion_tokens": 6}}\n',
    b'{"body": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}}\n',
    b'{"prompt": "a", "output_tokens": 5}\n',
    b'{"input_lens": [5, 6], "output_lens": [7, 8]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "5", "attributes": [{"key": '
    b'"gen_ai.usage.input_tokens", "value": {"intValue": "5"}}, {"key": "gen_ai.usage.output_tokens", "value": '
    b'{"intValue": "5"}}]}]}]}]}\n',
    b'{"benchmarks": [{"requests": {"successful": [{"prompt_tokens": 5, "output_tokens": 6}]}}]}\n',
    b'{"id": "a", "block_size": 64, "requests": [{"t": 0, "type": "n", "in": 5, "out": 6, "hash_ids": [1]}]}\n',
    b"PAR1",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"",
]
NUMBERS = st.one_of(
    st.integers(-2, 5000).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.sampled_from(
        ["", "nan", "NA", "null", "inf", "0x10", "1e3", "+5", " 5", "5 ", "5.0", "5.", ".5", "1_0", "٣", "-0", "1e400",
         "9" * 25, "10000001", '"5"', '"5', "5,5", "x", "\r", "5\r6", "true", "2024-01-01 00:00:00", "[5]"]
    ),
)  # fmt: skip
KEYS = {
    "mooncake": ("timestamp", "input_length", "output_length", "hash_ids"),
    "bailian": ("timestamp", "input_length", "output_length", "chat_id", "parent_chat_id", "turn", "hash_ids"),
}
VALUES: st.SearchStrategy[object] = st.one_of(
    st.integers(-2, 5000),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([None, True, "5", "", [], [1, 2], [1, None], [1.0], [2**63], [-5], {}, [[1]]]),
)
COLUMNS = {"arrival": "a", "input_tokens": "b", "output_tokens": "c", "session": "d"}


def letters(text: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
    del add_special_tokens
    return {"input_ids": [list(range(len(item))) for item in text]}


def outcome(path: Path, **options: Any) -> dict[str, Any] | str:  # noqa: ANN401 - read_trace checks them
    """All of the trace, or the error's line."""
    trace, error = None, None
    try:
        trace = read_trace(path, tokenizer=letters, **options)
    except WorkloadError as caught:
        error = caught
    if trace is None:
        assert error is not None
        assert error.field
        assert "\n" not in str(error)
        return str(error)
    check(trace)
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(trace).items()
        if name != "prefixes"
    } | {"hashes": None if trace.prefixes is None else [trace.prefixes.of(row).tolist() for row in range(len(trace))]}


def check(trace: WorkloadTrace) -> None:
    """What every trace promises."""
    assert len(trace) > 0
    assert trace.arrival_s[0] == 0
    assert (np.diff(trace.arrival_s) >= 0).all()
    for column in (trace.input_tokens, trace.output_tokens):
        assert column.dtype == np.int64
        assert column.shape == (len(trace),)
        assert column.min() >= 1
    if trace.session is not None:
        assert trace.turn is not None
        assert trace.turn.min() >= 1
    if trace.prefixes is not None:
        counts = np.diff(trace.prefixes.offsets)
        assert (counts <= -(-trace.input_tokens // trace.prefixes.block_tokens)).all()
        assert len(trace.prefixes.hashes) == counts.sum()


@contextmanager
def line_by_line() -> Iterator[None]:
    """No block is parsed at once."""

    def refuse(self: object, data: bytes) -> None:
        raise ValueError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CsvRows, "block", refuse)
        patch.setattr(JsonRows, "block", refuse)
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces") / "trace"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=200), st.booleans())
def test_any_bytes(file: Path, beginning: bytes, rest: bytes, packed: bool) -> None:
    content = beginning + rest
    file.write_bytes(gzip.compress(content) if packed else content)
    outcome(file)
    outcome(file, columns={"input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"}, max_rejected_share=1.0)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(BEGINNINGS[:7]), st.data())
def test_any_damage_of_a_good_file(file: Path, beginning: bytes, data: st.DataObject) -> None:
    content = bytearray(beginning * 3)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    file.write_bytes(bytes(content))
    outcome(file, max_rejected_share=data.draw(st.sampled_from([0.0, 0.01, 1.0])))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["", "a", " b ", '"c"', "ü"])), max_size=4))
def test_csv_at_once_and_line_by_line(file: Path, rows: list[tuple[str, ...]]) -> None:
    file.write_text("".join(",".join(row) + "\n" for row in [tuple("abcd"), *rows]), encoding="utf-8", newline="")
    for unit in ("s", "ns"):
        fast = outcome(file, columns=COLUMNS, time_unit=unit, max_rejected_share=1.0)
        with line_by_line():
            assert outcome(file, columns=COLUMNS, time_unit=unit, max_rejected_share=1.0) == fast


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KEYS)), st.data())
def test_json_at_once_and_line_by_line(file: Path, form: str, data: st.DataObject) -> None:
    good: dict[str, Any] = dict.fromkeys(KEYS[form], 5) | {"hash_ids": [3]}
    lines = [json.dumps(good)]
    for _ in range(data.draw(st.integers(1, 3))):
        row = dict(good)
        for key in data.draw(st.lists(st.sampled_from(KEYS[form]), max_size=2)):
            row[key] = data.draw(VALUES)
        for key in data.draw(st.lists(st.sampled_from(KEYS[form]), max_size=1)):
            row.pop(key, None)
        lines.append(json.dumps(row))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fast = outcome(file, max_rejected_share=1.0)
    with line_by_line():
        assert outcome(file, max_rejected_share=1.0) == fast


ENTRIES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(VALUES, st.fixed_dictionaries({"t": VALUES, "in": VALUES, "out": VALUES, "hash_ids": VALUES})),
    lambda inner: st.fixed_dictionaries(
        {"t": VALUES, "type": st.just("subagent"), "requests": st.lists(inner, max_size=3)}
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries({"requests": st.lists(ENTRIES, max_size=4), "block_size": VALUES}), max_size=3))
def test_any_sessions(file: Path, sessions: list[dict[str, Any]]) -> None:
    for content in (json.dumps(sessions), "\n".join(map(json.dumps, sessions)), json.dumps(sessions, indent=1)[:-3]):
        file.write_text(content, encoding="utf-8")
        outcome(file, max_rejected_share=1.0)


TURNS = st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", 5]), "value": st.one_of(st.text(), VALUES)})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries({"conversations": st.one_of(st.lists(TURNS, max_size=4), VALUES)}), max_size=3))
def test_any_conversations(file: Path, conversations: list[dict[str, Any]]) -> None:
    file.write_text(json.dumps(conversations), encoding="utf-8")
    outcome(file, max_rejected_share=1.0)
