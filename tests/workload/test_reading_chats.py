"""Texts in the forms that people have them, counted by a tokenizer of letters."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, read_trace

TURNS = [("user", "abcd"), ("assistant", "xy"), ("user", "ef"), ("assistant", "z")]
ROLES = [{"role": role, "content": text} for role, text in TURNS]
PARTS = [{"role": role, "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {}}]}
         for role, text in TURNS]  # fmt: skip
EXPECTED = [(0.0, 4, 2), (0.0, 8, 1)]


def letters(text: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
    del add_special_tokens
    return {"input_ids": [list(range(len(item))) for item in text]}


def read(path: Path, *records: object, **options: Any) -> WorkloadTrace:  # noqa: ANN401 - read_trace checks them
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return read_trace(path, tokenizer=letters, **options)


def rows(trace: WorkloadTrace) -> list[tuple[float, int, int]]:
    return list(zip(trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": ROLES},
        {"conversation_id": "c", "conversation": ROLES, "turn": 2},
        {"prompt": "abcd", "messages": ROLES},
        {"messages": PARTS},
        {
            "conversations": [
                {"from": {"user": "human", "assistant": "gpt"}[role], "value": text} for role, text in TURNS
            ]
        },
    ],
    ids=["role and content", "LMSYS", "UltraChat", "parts", "ShareGPT"],
)
def test_conversations(tmp_path: Path, record: dict[str, Any]) -> None:
    trace = read(tmp_path / "a", record, record)
    assert rows(trace) == [*EXPECTED, *EXPECTED]
    assert trace.session is not None
    assert trace.session.tolist() == [0, 0, 1, 1]
    assert trace.format == "chats"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "abcd", "output_tokens": 9}, (4, 9)),
        ({"prompt": "abcd", "completion": "xyz"}, (4, 3)),
        ({"text_input": "abcd", "output_length": 9}, (4, 9)),
        ({"messages": ROLES[:3], "output_length": 9}, (8, 9)),
        ({"custom_id": "r", "url": "/v1", "body": {"messages": ROLES[:1], "max_completion_tokens": 9}}, (4, 9)),
        ({"custom_id": "r", "url": "/v1", "body": {"input": "abcd", "max_output_tokens": 9}}, (4, 9)),
        ({"payload": {"prompt": "abcd", "max_tokens": 9}, "timestamp": 5}, (4, 9)),
    ],
)
def test_prompts_with_the_length_of_their_answers(
    tmp_path: Path, record: dict[str, Any], expected: tuple[int, int]
) -> None:
    trace = read(tmp_path / "a", record)
    assert rows(trace) == [(0.0, *expected)]
    assert any("most that the call allowed" in note for note in trace.notes) == ("max" in json.dumps(record))


def test_prompts_have_times_and_sessions_of_their_own(tmp_path: Path) -> None:
    record = {"output_length": 5, "session_id": "s"}
    trace = read(
        tmp_path / "a",
        {**record, "timestamp": 1000, "messages": ROLES[:1]},
        {**record, "timestamp": 2500, "messages": ROLES[:3]},
    )
    assert rows(trace) == [(0.0, 4, 5), (1.5, 8, 5)]
    assert trace.turn is not None
    assert trace.turn.tolist() == [1, 2]


def test_what_a_turn_adds_to_its_conversation(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "a",
        {"session_id": "s", "message_mode": "delta", "messages": ROLES[:1], "output_length": 5, "timestamp": 0},
        {"session_id": "s", "message_mode": "delta", "messages": ROLES[2:3], "output_length": 6, "delay": 2000},
    )
    assert rows(trace) == [(0.0, 4, 5), (2.0, 4 + 5 + 2, 6)]


PROMPTS = [
    {"prompt": "abcd"},
    {"messages": ROLES[:1], "answers": ["x"]},
    {"input": "Who?", "context": "A text.", "answers": ["a"], "length": 3},
    {"context": "long " * 10_000, "input": "Who?"},
]


@pytest.mark.parametrize("row", PROMPTS)
@pytest.mark.parametrize("counted", [True, False], ids=["with a tokenizer", "without"])
def test_a_file_of_prompts_is_refused_with_the_command_that_judges_on_them(
    tmp_path: Path, row: dict[str, Any], counted: bool
) -> None:
    path = tmp_path / "my prompts.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for _ in range(3)))
    with pytest.raises(WorkloadError, match="holds prompts, not requests") as caught:
        read_trace(path, tokenizer=letters if counted else None)
    command = re.search("`(.*)`$", str(caught.value))
    assert command is not None
    parts = shlex.split(command[1])
    assert parts[:2] == ["autokv", "evaluate"]
    assert parts[-2:] == ["--prompts", str(path)]


def test_one_prompt_without_an_answer_among_many_is_a_bad_row(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"1 of 2 rows are bad, .*neither an answer nor a number of output tokens"):
        read(tmp_path / "a", {"prompt": "abcd"}, {"prompt": "abcd", "output_length": 3})
