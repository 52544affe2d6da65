"""Tables: columns that are told by their names, in the forms of logs and tools."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, read_trace

EXPECTED = [(0.0, 100, 20), (2.5, 300, 40)]
TIMES = ("2025-05-01T12:00:00Z", "2025-05-01T12:00:02.500Z")
EPOCHS = (1746100800.0, 1746100802.5)


def read(path: Path, content: str, **options: Any) -> WorkloadTrace:  # noqa: ANN401 - read_trace checks them
    path.write_text(content)
    return read_trace(path, **options)


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def rows(trace: WorkloadTrace) -> list[tuple[float, int, int]]:
    return list(zip(trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def openai(when: float, inputs: int, outputs: int) -> dict[str, Any]:
    usage = {"prompt_tokens": inputs, "completion_tokens": outputs, "prompt_tokens_details": {"cached_tokens": 7}}
    body = {"id": "x", "created": int(when), "usage": usage}
    return {"custom_id": "r", "response": {"status_code": 200, "body": body}, "error": None}


FORMS = {
    "OpenAI's batch output": (
        lines(openai(1746100800, 100, 20), openai(1746100802, 300, 40)),
        [(0.0, 100, 20), (2.0, 300, 40)],
    ),
    "Anthropic's usage": (
        lines({"ts": TIMES[0], "usage": {"input_tokens": 100, "output_tokens": 20}},
              {"ts": TIMES[1], "usage": {"input_tokens": 300, "output_tokens": 40}}),
        EXPECTED,
    ),
    "Langfuse": (
        json.dumps([{"startTime": TIMES[0], "usageDetails": {"input": 100, "output": 20}, "sessionId": "s"},
                    {"startTime": TIMES[1], "usageDetails": {"input": 300, "output": 40}, "sessionId": "s"}], indent=1),
        EXPECTED,
    ),
    "flat attributes of spans": (
        lines(*({"start_time": time, "attributes": {"gen_ai.usage.input_tokens": inputs,
                                                    "gen_ai.usage.output_tokens": outputs}}
                for time, (_, inputs, outputs) in zip(TIMES, EXPECTED, strict=True))),
        EXPECTED,
    ),
    "OpenInference": (
        lines(*({"start_time": time, "attributes": {"llm.token_count.prompt": inputs,
                                                    "llm.token_count.completion": outputs}}
                for time, (_, inputs, outputs) in zip(TIMES, EXPECTED, strict=True))),
        EXPECTED,
    ),
    "aiperf's records": (
        lines({"metadata": {"request_start_ns": None, "x_correlation_id": "s"}, "metrics": {"error_isl": {"value": 5}}},
              *({"metadata": {"request_start_ns": int(when * 1e9), "x_correlation_id": "s", "conversation_id": "c"},
                 "metrics": {"input_sequence_length": {"value": inputs, "unit": "tokens"},
                             "output_sequence_length": {"value": outputs, "unit": "tokens"}}}
                for when, (_, inputs, outputs) in zip(EPOCHS, EXPECTED, strict=True))),
        EXPECTED,
    ),
    "LLMServingSim": (
        lines({"request_id": "a", "input_toks": 100, "output_toks": 20, "arrival_time": EPOCHS[0], "queued_ts": 5.0},
              {"request_id": "b", "input_toks": 300, "output_toks": 40, "arrival_time": EPOCHS[1], "queued_ts": 9.0}),
        EXPECTED,
    ),
    "its input": (
        lines({"input_toks": 100, "output_toks": 20, "arrival_time_ns": 0, "input_tok_ids": [1, 2]},
              {"input_toks": 300, "output_toks": 40, "arrival_time_ns": 2_500_000_000, "input_tok_ids": [1, 2]}),
        EXPECTED,
    ),
    "LiteLLM from psql": (
        "startTime,prompt_tokens,completion_tokens,total_tokens,session_id\n"
        "2025-05-01 12:00:00+00,100,20,120,s\n2025-05-01 12:00:02.5+00,300,40,340,s\n",
        EXPECTED,
    ),
    "lower case, with a call that failed": (
        "timestamp,contexttokens,generatedtokens\n2025-05-01 12:00:01,,\n"
        "2025-05-01 12:00:00,100,20\n2025-05-01 12:00:02.5,300,40\n",
        EXPECTED,
    ),
    "semicolons": (
        "TIMESTAMP;ContextTokens;GeneratedTokens\r\n2025-05-01 12:00:00,0;100;20\r\n2025-05-01 12:00:02,5;300;40\r\n",
        EXPECTED,
    ),
    "tabs and milliseconds": ("arrival_ms\tprompt_len\toutput_len\n7\t100\t20\n2507\t300\t40\n", EXPECTED),
    "microseconds since 1970": (
        lines(*({"timestamp": int(when * 1e6), "prompt_tokens": str(inputs), "completion_tokens": outputs}
                for when, (_, inputs, outputs) in zip(EPOCHS, EXPECTED, strict=True))),
        EXPECTED,
    ),
    "no arrivals": ("prompt_tokens,completion_tokens\n100,20\n300,40\n", [(0.0, 100, 20), (0.0, 300, 40)]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(tmp_path: Path, name: str) -> None:
    content, expected = FORMS[name]
    trace = read(tmp_path / "a", content)
    whens, *others = zip(*rows(trace), strict=True)
    expected_whens, *expected_others = zip(*expected, strict=True)
    assert whens == pytest.approx(expected_whens, abs=1e-6)
    assert others == expected_others
    assert trace.format == "table"
    assert trace.rejected.count == 0
    assert trace.notes[0].startswith("columns were told by their names: ")
    if "session" in content.lower() or "x_correlation" in content:
        assert trace.turn is not None
        assert trace.turn.tolist() == [1, 2]


def test_what_was_taken_for_what_is_said(tmp_path: Path) -> None:
    trace = read(tmp_path / "a", FORMS["its input"][0])
    assert trace.notes[0] == (
        "columns were told by their names: arrival is arrival_time_ns in ns, input_tokens is input_toks, "
        "output_tokens is output_toks"
    )


def test_a_path_may_be_named_and_a_key_may_hold_dots(tmp_path: Path) -> None:
    records = [{"at": when, "a.b": {"c": {"in": inputs}, "d.e": str(outputs)}} for when, inputs, outputs in EXPECTED]
    columns = {"arrival": "at", "input_tokens": "a.b.c.in", "output_tokens": "a.b.d.e"}
    assert rows(read(tmp_path / "a", lines(*records), columns=columns)) == EXPECTED
    assert rows(read(tmp_path / "b", json.dumps(records, indent=2), columns=columns)) == EXPECTED


def test_the_least_nested_of_two_columns_counts(tmp_path: Path) -> None:
    record = {"details": {"prompt_tokens": 5}, "prompt_tokens": 100, "completion_tokens": 20}
    assert rows(read(tmp_path / "a", lines(record))) == [(0.0, 100, 20)]


def test_texts_and_lists_are_no_numbers_of_tokens(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="unrecognized trace format"):
        read(tmp_path / "a", lines({"prompt_tokens": [5, 6], "completion_tokens": "many"}))


def test_month_and_day_are_not_guessed(tmp_path: Path) -> None:
    content = "timestamp,prompt_tokens,completion_tokens\n05/01/2025 12:00:00,100,20\n05/02/2025 12:00,300,40\n"
    with pytest.raises(
        WorkloadError, match="'05/01/2025 12:00:00' could begin with the month or with the day"
    ) as caught:
        read(tmp_path / "a", content)
    assert str(caught.value).endswith("--column output_tokens=completion_tokens --time-unit mdy`")
    assert read(tmp_path / "a", content, time_unit="mdy").arrival_s.tolist() == [0, 86400]
    assert read(tmp_path / "a", content, time_unit="dmy").arrival_s.tolist() == [0, 31 * 86400]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("ts,in,out\n2025-05-01 12:00,10,20\n", ["input_tokens=in", "output_tokens=out", "arrival=ts"]),
        ("ts,in,out\n25/12/2025 12:00,10,20\n", ["input_tokens=in", "output_tokens=out", "arrival=ts", "dmy"]),
        ('{"q": "a", "my prompt size": 5, "n_gen": 6}\n', ["input_tokens=my prompt size", "output_tokens=n_gen"]),
        ("a,b\n1,2\n", ["input_tokens=NAME", "output_tokens=NAME"]),
    ],
)
def test_an_unknown_table_is_refused_with_a_command_that_reads_it(
    tmp_path: Path, content: str, options: list[str]
) -> None:
    path = tmp_path / "my log"
    with pytest.raises(WorkloadError, match="unrecognized trace format") as caught:
        read(path, content)
    command = re.search("`(.*)`$", str(caught.value))
    assert command is not None
    words = shlex.split(command[1])
    assert words[:4] == ["autokv", "trace", "inspect", str(path)]
    assert [word for word in words[4:] if not word.startswith("--")] == options
