"""Every trace format, from a small file written by hand: what is read, and that it is not taken for another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.readers import READERS, Opening

BAILIAN_ROWS = [
    {"chat_id": 7, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 33, "output_length": 5, "turn": 1,
     "type": "text", "hash_ids": [1, 2, 3]},
    {"chat_id": 8, "parent_chat_id": 3, "timestamp": 1.25, "input_length": 16, "output_length": 6, "turn": 4,
     "type": "search", "hash_ids": [9]},
    {"chat_id": 9, "parent_chat_id": 7, "timestamp": 61.114, "input_length": 48, "output_length": 7, "turn": 2,
     "type": "text", "hash_ids": [1, 2, 4]},
    {"chat_id": 10, "parent_chat_id": 9, "timestamp": 62, "input_length": 60, "output_length": 8, "turn": 3,
     "type": "text", "hash_ids": [1, 2, 4, 5]},
    {"chat_id": 11, "parent_chat_id": 3, "timestamp": 63, "input_length": 20, "output_length": 9, "turn": 4,
     "type": "file", "hash_ids": [9, 10]},
]  # fmt: skip
SHAREGPT_CONVERSATIONS = [
    {"id": "a", "conversations": [
        {"from": "human", "value": "abcd"}, {"from": "gpt", "value": "xy"},
        {"from": "human", "value": "ef"}, {"from": "gpt", "value": "z"}]},
    {"id": "b", "conversations": [
        {"from": "gpt", "value": "no question"}, {"from": "human", "value": "q\ud800"}, {"from": "gpt", "value": ""},
        {"from": "human", "value": "again"}, {"from": "gpt", "value": "yes"}]},
    {"id": "c", "conversations": []},
]  # fmt: skip
WEKA_SESSION = {
    "id": "trace_1", "models": ["m"], "block_size": 64, "hash_id_scope": "local", "requests": [
        {"t": 0.0, "type": "n", "in": 100, "out": 5, "hash_ids": [1, 2]},
        {"t": 10.0, "type": "subagent", "agent_id": "x", "requests": [
            {"t": 0.5, "type": "s", "in": 64, "out": 6, "hash_ids": [1]},
            {"t": 2.0, "type": "s", "in": 70, "out": 7, "hash_ids": [1, 9]}]},
        {"t": 20.0, "type": "s", "in": 130, "out": 8, "hash_ids": [1, 2, 3]},
    ],
}  # fmt: skip
SAMPLES = {
    "azure": """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
""",
    "mooncake": """{"timestamp": 0, "input_length": 700, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 1500, "input_length": 513, "output_length": 490, "hash_ids": [0, 2]}
{"timestamp": 27482, "input_length": 9, "output_length": 1}
""",
    "bailian": "".join(json.dumps(row) + "\n" for row in BAILIAN_ROWS),
    "burstgpt": """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118.5,GPT-4,417,276,693,API log
""",
    "vidur": """arrived_at,num_prefill_tokens,num_decode_tokens
0.0,4808,10
0.052,3180,8
199.96150599999999,161,11
""",
    "chats": json.dumps(SHAREGPT_CONVERSATIONS),
    "weka": json.dumps(WEKA_SESSION, indent=1),
    "bench": json.dumps(
        {
            "duration": 3.0,
            "total_input_tokens": 5,
            "request_throughput": 1.5,
            "input_lens": [100, 200, 300],
            "start_times": [50.0, 50.5, 52.0],
            "output_lens": [10, 20, 0],
            "ttfts": [0.1, 0.1, 0.0],
            "errors": ["", "", "timeout"],
        }
    ),
    "guidellm": json.dumps(
        {
            "metadata": {},
            "benchmarks": [
                {
                    "requests": {
                        "successful": [
                            {"request_start_time": 1.7e9, "prompt_tokens": 512, "output_tokens": 64},
                            {"request_start_time": 1.7e9 + 2.5, "prompt_tokens": 500, "output_tokens": 60},
                        ],
                        "incomplete": [{"request_start_time": 1.7e9 + 3, "prompt_tokens": 9, "output_tokens": 1}],
                        "errored": [],
                    }
                }
            ],
        },
        indent=2,
    ),
    "otlp": json.dumps(
        {
            "resourceSpans": [
                {
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "name": f"chat {number}",
                                    "startTimeUnixNano": str(1710000001 * 10**9 + number * 250_000_000),
                                    "attributes": [
                                        {"key": "gen_ai.operation.name", "value": {"stringValue": operation}},
                                        {"key": "gen_ai.conversation.id", "value": {"stringValue": "c"}},
                                        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": str(100 + number)}},
                                        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "50"}},
                                    ],
                                }
                                for number, operation in enumerate(("chat", "invoke_agent", "chat"))
                            ]
                        }
                    ]
                }
            ]
        }
    )
    + "\n",
    "table": "created_at;model;Prompt Tokens;completion_tokens\n2025-05-01 12:00:00+00;m;10;2\n"
    "2025-05-01 12:00:01.5+00;m;20;3\n",
}


def letters(text: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
    """A tokenizer for which every character is a token."""
    del add_special_tokens
    return {"input_ids": [list(range(len(item))) for item in text]}


def read(folder: Path, content: str, **options: Any) -> WorkloadTrace:  # noqa: ANN401 - read_trace checks them
    path = folder / "trace"
    path.write_text(content, encoding="utf-8")
    return read_trace(path, **options)


def rows(trace: WorkloadTrace) -> list[tuple[float, int, int]]:
    return list(zip(trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def listed(values: np.ndarray[Any, Any] | None) -> list[int] | None:
    return None if values is None else values.tolist()


def blocks(trace: WorkloadTrace) -> list[list[int]]:
    assert trace.prefixes is not None
    return [trace.prefixes.of(request).tolist() for request in range(len(trace))]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_has_a_sample_that_only_its_reader_recognizes(name: str, tmp_path: Path) -> None:
    opening = Opening(SAMPLES[name].encode())
    # A table's columns may have the names of a format, which is asked first.
    assert {other for other, reader in READERS.items() if reader.recognizes(opening)} - {"table"} == {name} - {"table"}
    assert read(tmp_path, SAMPLES[name], tokenizer=letters).format == name


def test_every_format_has_a_sample() -> None:
    assert {*SAMPLES} == {*READERS}


def test_results_of_load_generators_and_spans(tmp_path: Path) -> None:
    # The third call failed.
    assert rows(read(tmp_path, SAMPLES["bench"])) == [(0.0, 100, 10), (0.5, 200, 20)]
    assert rows(read(tmp_path, SAMPLES["guidellm"])) == [(0.0, 512, 64), (2.5, 500, 60)]
    # The second span is an agent's, whose calls are spans of their own.
    trace = read(tmp_path, SAMPLES["otlp"])
    assert rows(trace) == [(0.0, 100, 50), (0.5, 102, 50)]
    assert listed(trace.turn) == [1, 2]


def test_a_result_of_sums_says_how_to_get_the_requests(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"has sums over all requests.*with `--save-detailed` .vLLM."):
        read(tmp_path, json.dumps({"duration": 3.0, "total_input_tokens": 5, "request_throughput": 1.5}))


def test_mooncake_blocks(tmp_path: Path) -> None:
    trace = read(tmp_path, SAMPLES["mooncake"])
    assert rows(trace) == [(0.0, 700, 500), (1.5, 513, 490), (27.482, 9, 1)]
    assert trace.prefixes is not None
    assert trace.prefixes.block_tokens == 512
    assert blocks(trace) == [[0, 1], [0, 2], []]
    assert listed(trace.lines) == [1, 2, 3]


def test_hashes_follow_their_requests_when_rows_are_sorted(tmp_path: Path) -> None:
    lines = SAMPLES["mooncake"].splitlines()
    trace = read(tmp_path, "\n".join(["", lines[2], lines[1], "", lines[0]]))
    assert blocks(trace) == [[0, 1], [0, 2], []]
    assert listed(trace.lines) == [5, 3, 2]
    assert trace.notes == ("sorted by arrival: 2 rows out of order, the first in line 3",)


def test_more_hashes_than_blocks_are_cut(tmp_path: Path) -> None:
    lines = SAMPLES["mooncake"].splitlines()
    long = json.dumps({"timestamp": 1, "input_length": 512, "output_length": 3, "hash_ids": [4, 5, 6]})
    trace = read(tmp_path, "\n".join([lines[0], long, *lines[1:]]), hash_block_size=512)
    assert blocks(trace) == [[0, 1], [4], [0, 2], []]
    assert "hashes left out: 1 prompt with more of them" in trace.notes[0]


def test_a_trace_without_hashes_has_no_prefixes(tmp_path: Path) -> None:
    assert read(tmp_path, SAMPLES["mooncake"].splitlines()[2]).prefixes is None


def test_bailian_conversations_follow_parents_also_to_one_that_is_not_there(tmp_path: Path) -> None:
    trace = read(tmp_path, SAMPLES["bailian"])
    assert trace.arrival_s.tolist() == pytest.approx([0, 0.75, 60.614, 61.5, 62.5])
    assert trace.prefixes is not None
    assert trace.prefixes.block_tokens == 16
    assert blocks(trace)[3] == [1, 2, 4, 5]
    session = listed(trace.session)
    assert session is not None
    assert session[0] == session[2] == session[3]
    assert session[1] == session[4] != session[0]
    assert listed(trace.turn) == [1, 4, 2, 3, 4]


def test_bailian_in_any_order_of_rows_and_with_a_circle_of_parents(tmp_path: Path) -> None:
    circle = [
        {**BAILIAN_ROWS[0], "chat_id": 1, "parent_chat_id": 2},
        {**BAILIAN_ROWS[0], "chat_id": 2, "parent_chat_id": 1},
    ]
    content = "".join(json.dumps(row) + "\n" for row in [*BAILIAN_ROWS[::-1], *circle])
    trace = read(tmp_path, content)
    whole = read(tmp_path, SAMPLES["bailian"])
    kept = np.flatnonzero(trace.input_tokens != 33)
    assert rows(trace.take(kept))[-1] == rows(whole)[-1]
    session = listed(trace.take(kept).session)
    assert session is not None
    assert session[0] == session[3]
    assert session[1] == session[2]


def test_burstgpt_without_sessions(tmp_path: Path) -> None:
    trace = read(tmp_path, SAMPLES["burstgpt"])
    assert rows(trace) == [(0.0, 472, 18), (113.5, 417, 276)]
    assert trace.rejected.count == 0
    assert trace.notes == ("left out: 1 call that failed, without output tokens",)
    assert trace.session is None
    assert listed(trace.lines) == [2, 4]


def test_burstgpt_with_sessions(tmp_path: Path) -> None:
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
    lines = [
        "19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log",
        "19440161.0,,2,ChatGPT,36,29,65,API log",
        "19440192.0,1722ac82-0a46,8,GPT-4,1779,123,1902,Conversation log",
        "19440254.0,,3,ChatGPT,935,178,1113,API log",
    ]
    trace = read(tmp_path, "\n".join([header, *lines, ""]))
    session = listed(trace.session)
    assert session is not None
    assert session[0] == session[2]
    assert len(set(session)) == 3
    assert listed(trace.turn) == [1, 1, 2, 1]
    assert trace.arrival_s.tolist() == [0, 51, 82, 144]
    # The same with a bad row, so that lines are read one by one.
    damaged = read(tmp_path, "\n".join([header, *lines[:2], "x", *lines[2:], ""]), max_rejected_share=0.5)
    assert listed(damaged.session) == session
    assert damaged.rejected.lines == (4,)


def test_vidur_with_and_without_arrivals(tmp_path: Path) -> None:
    timed = read(tmp_path, SAMPLES["vidur"])
    assert timed.arrival_s.tolist() == pytest.approx([0, 0.052, 199.961506], abs=1e-9)
    lengths = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.85\n2015,156,2171,12.9\n"
    trace = read(tmp_path, lengths)
    assert (trace.format, trace.timed, rows(trace)) == ("vidur", False, [(0.0, 3772, 54), (0.0, 2015, 156)])


def test_sharegpt_makes_a_request_of_every_answer(tmp_path: Path) -> None:
    trace = read(tmp_path, SAMPLES["chats"], tokenizer=letters)
    # In the second conversation the first answer answers nothing and the next is empty.
    assert rows(trace) == [(0.0, 4, 2), (0.0, 8, 1), (0.0, 18, 3)]
    assert listed(trace.session) == [0, 0, 1]
    assert listed(trace.turn) == [1, 2, 3]
    assert not trace.timed
    assert trace.notes == ("left out: 2 answers without a question or without text",)


def test_sharegpt_of_many_batches_is_counted_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autokv.workload.readers import chats

    content = json.dumps(SHAREGPT_CONVERSATIONS * 5, indent=2)
    whole = read(tmp_path, content, tokenizer=letters)
    monkeypatch.setattr(chats, "BATCH_CHARACTERS", 1)
    assert rows(read(tmp_path, content, tokenizer=letters)) == rows(whole)
    assert len(whole) == 15


def test_sharegpt_without_a_tokenizer_or_with_one_that_fails(tmp_path: Path) -> None:
    with pytest.raises(
        WorkloadError, match=r"only a tokenizer can count; name the model.*--tokenizer Qwen/Qwen3-0\.6B`$"
    ):
        read(tmp_path, SAMPLES["chats"])

    def broken(text: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
        raise RuntimeError("out of\norder")

    with pytest.raises(WorkloadError, match=r"the tokenizer fails on it \(RuntimeError: out of order\)"):
        read(tmp_path, SAMPLES["chats"], tokenizer=broken)


def test_weka_subagents_are_sessions_that_share_the_blocks(tmp_path: Path) -> None:
    trace = read(tmp_path, SAMPLES["weka"])
    assert rows(trace) == [(0.0, 100, 5), (10.5, 64, 6), (12.0, 70, 7), (20.0, 130, 8)]
    assert listed(trace.session) == [0, 1, 1, 0]
    assert listed(trace.turn) == [1, 1, 2, 2]
    assert trace.prefixes is not None
    assert trace.prefixes.block_tokens == 64
    first, inner, after, last = blocks(trace)
    assert first == last[:2]
    assert inner == after[:1] == first[:1]
    assert after[1] not in last
    assert trace.notes == ()


def test_weka_subagents_with_times_of_the_outer_session(tmp_path: Path) -> None:
    session = json.loads(SAMPLES["weka"])
    for request in session["requests"][1]["requests"]:
        request["t"] += 10
    assert rows(read(tmp_path, json.dumps(session))) == rows(read(tmp_path, SAMPLES["weka"]))


@pytest.mark.parametrize("form", ["list", "lines"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_weka_hashes_are_a_sessions_own_unless_they_are_global(tmp_path: Path, form: str, scope: str) -> None:
    sessions = [{**WEKA_SESSION, "id": str(number), "hash_id_scope": scope} for number in range(2)]
    lines = "\n".join(map(json.dumps, sessions))
    trace = read(tmp_path, json.dumps(sessions) if form == "list" else lines)
    session = listed(trace.session)
    assert session is not None
    hashes = blocks(trace)
    of = [
        {value for row, owner in zip(hashes, session, strict=True) if owner in own for value in row}
        for own in ({0, 1}, {2, 3})
    ]
    assert (of[0] == of[1]) == (scope == "global")
    assert bool(of[0] & of[1]) == (scope == "global")
    assert trace.notes == ("2 sessions have clocks of their own: all of them begin at 0",)


def test_weka_sessions_of_other_blocks_are_bad(tmp_path: Path) -> None:
    sessions = [json.dumps(WEKA_SESSION), json.dumps({**WEKA_SESSION, "block_size": 32})]
    trace = read(tmp_path, "\n".join(sessions), max_rejected_share=0.5)
    assert (len(trace), trace.rejected.lines) == (4, (2,))
    assert "its blocks have 32 tokens" in trace.rejected.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"conversations": []}', "the list is cut off"),
        ('[{"conversations": [{"from": "hu', "cut off inside of a document"),
        ('[{"conversations": []}, {"conversations" 5}                            ]', "cannot be read .no JSON"),
        ('[{"conversations": []}] x', "something follows the list"),
        ('[{"conversations": []}, 7, {"conversations": []}]', "not a JSON object"),
        ('{"requests": [{"t": 0, "in": 5', "cut off inside of a document"),
        ('{"requests": []}\n', "no requests"),
        ('{"requests": 5}\n', "1 of 1 rows are bad.*requests is not a list"),
        ('{"requests": [5, {"t": 1}, {"t": -1, "in": 1, "out": 1}]}\n', "3 of 3 rows are bad.*not a JSON object"),
        ('{"requests": [{"t": 1e300, "type": "subagent", "requests": [{"t": 0, "in": 1, "out": 1}]}]}', "out of range"),
        ('{"requests": [], "block_size": 0}\n', "block_size '0'"),
        ('{"requests": [], "deep": ' + "[" * 100_000, "nested too deeply|cut off"),
        ('[{"conversations": [{"value": "x"}]}]', "does not say who speaks"),
    ],
)  # fmt: skip
def test_bad_documents(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(WorkloadError, match=message) as caught:
        read(tmp_path, content, tokenizer=letters)
    assert caught.value.field is not None
    assert caught.value.field.startswith(str(tmp_path / "trace"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra", [float("nan"), float("inf"), 2**64, -(2**63) - 1, "\ud800", 1e-400])
@pytest.mark.parametrize("form", ["list", "lines"])
def test_whatever_pythons_json_writes_beside_the_columns_is_read(tmp_path: Path, extra: object, form: str) -> None:
    sessions = [WEKA_SESSION, {**WEKA_SESSION, "seen": extra}]
    lines = "\n".join(map(json.dumps, sessions))
    trace = read(tmp_path, json.dumps(sessions) if form == "list" else lines)
    assert len(trace) == 8
    assert trace.rejected.count == 0


def test_documents_over_many_pieces_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autokv.workload.source import Source

    content = json.dumps([{**WEKA_SESSION, "id": "ä" * number} for number in range(20)], indent=1, ensure_ascii=False)
    whole = read(tmp_path, content)
    chunks = Source.chunks
    monkeypatch.setattr(Source, "chunks", lambda source, size=7: chunks(source, min(size, 7)))
    pieces = read(tmp_path, content)
    assert rows(pieces) == rows(whole)
    assert listed(pieces.lines) == listed(whole.lines)
    assert blocks(pieces) == blocks(whole)


CSV = "when;prompt;gen;user\n2024-01-01 00:00:00;10;2;a\n2024-01-01 00:00:01.5;20;3;b\n2024-01-01 00:00:03;30;4;a\n"
COLUMNS = {"arrival": "when", "input_tokens": "prompt", "output_tokens": "gen", "session": "user"}


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    expected = [(0.0, 10, 2), (1.5, 20, 3), (3.0, 30, 4)]
    trace = read(tmp_path, CSV, columns=COLUMNS)
    assert (trace.format, rows(trace)) == ("mapped", expected)
    assert listed(trace.turn) == [1, 1, 2]
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        for start in (0, 1_700_000_000):
            lines = [
                json.dumps({"when": round((start + arrival) * scale), "prompt": inputs, "gen": outputs, "user": name})
                if scale > 1
                else json.dumps({"when": start + arrival, "prompt": inputs, "gen": float(outputs), "user": name})
                for (arrival, inputs, outputs), name in zip(expected, "aba", strict=True)
            ]
            trace = read(tmp_path, "\n".join(lines), columns=COLUMNS, time_unit=unit)
            assert trace.arrival_s.tolist() == pytest.approx([0, 1.5, 3], abs=1e-5)
            assert listed(trace.turn) == [1, 1, 2]
            assert trace.notes == ()
    lengths = {name: COLUMNS[name] for name in ("input_tokens", "output_tokens")}
    assert rows(read(tmp_path, CSV.replace(";", ","), columns=lengths)) == [(0.0, i, o) for _, i, o in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {**COLUMNS, "model": "m"}}, "'model' is no field of a trace; name arrival, input_tokens"),
        ({"columns": {"arrival": "when", "input_tokens": "prompt"}}, "output_tokens has no column"),
        ({"columns": {**COLUMNS, "arrival": "time"}}, "no column 'time' for arrival; it has"),
        ({"columns": {**COLUMNS, "arrival": "gen"}}, "two fields have one column"),
        ({"columns": COLUMNS, "time_unit": "ms"}, "the timestamps of trace are dates"),
        ({"columns": COLUMNS, "time_unit": "h"}, "'h' is no unit; use one of s, ms"),
        (
            {},
            r"unrecognized trace format .'when;prompt;gen;user'.;.*--column output_tokens=gen --column arrival=when`$",
        ),
        ({"hash_block_size": 0}, "hash_block_size: is 0"),
        ({"max_rejected_share": 1.5}, "max_rejected_share: is 1.5"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        read(tmp_path, CSV, **options)


def test_another_unit_than_the_formats(tmp_path: Path) -> None:
    content = "".join(
        json.dumps({"timestamp": index / 4, "input_length": 20_000, "output_length": 9}) + "\n" for index in range(200)
    )
    assert read(tmp_path, content, time_unit="s").arrival_s[-1] == pytest.approx(199 / 4)
    assert read(tmp_path, content, time_unit="s").notes == ()
    # In milliseconds, as the format has it, it would be 80 million tokens a second.
    with pytest.raises(WorkloadError, match=r"4,020 requests arrive per second.*--time-unit s`$"):
        read(tmp_path, content)
    assert "if the timestamps are not in ms, give their unit" in read(tmp_path, content, time_unit="ms").notes[0]
    with pytest.raises(WorkloadError, match="the timestamps of azure are dates; leave it out"):
        read(tmp_path, SAMPLES["azure"], time_unit="s")
    with pytest.raises(WorkloadError, match="has no timestamps"):
        read(tmp_path, SAMPLES["chats"], time_unit="s", tokenizer=letters)


def vidur(*arrivals: float) -> str:
    return "".join(["arrived_at,num_prefill_tokens,num_decode_tokens\n", *(f"{time},5,5\n" for time in arrivals)])


@pytest.mark.parametrize(
    ("arrivals", "note"),
    [
        ([1.0, 2.0, 3.5], None),
        ([3.0, 1.0, 2.0], "sorted by arrival: 2 rows out of order, the first in line 3"),
        ([1e6 * index for index in range(200)], "a request arrives every 9.95e.05 s: if the timestamps are not in s"),
        ([1.7e9, 1.7e9 + 1, 1.7e9 + 2], None),
        ([0.5, 1.0, 1.5, 2000.0, 2000.5, 2001.0], "jump by 1998.5 s in line 5.*split the file"),
        ([1.0, 1.5, 50.0], None),
    ],
)
def test_what_is_said_of_times(tmp_path: Path, arrivals: list[float], note: str | None) -> None:
    notes = read(tmp_path, vidur(*arrivals)).notes
    assert len(notes) == (note is not None)
    if note is not None:
        assert re.search(note, notes[0])


def test_dates_in_another_unit(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"timestamp 1700000000000\.0 s is out of range; is s its unit"):
        read(tmp_path, vidur(1.7e12, 1.7e12 + 5))
    lines = [json.dumps({"timestamp": 1.7e9 + i, "input_length": 5, "output_length": 5}) for i in range(3)]
    assert "would begin in 2023-11-14 in s: give their unit" in read(tmp_path, "\n".join(lines)).notes[0]
    # Seconds and milliseconds since 1970 in one column: the latter are out of range of the former.
    with pytest.raises(WorkloadError, match=r"1 of 3 rows are bad.*is s its unit"):
        read(tmp_path, vidur(1.7e9, 1.7e9 + 1, 1.7e12))


@pytest.mark.parametrize(
    ("timestamps", "line"),
    [
        ([time * factor for time in range(1, 40) for factor in (1, 1000)], 3),
        ([*(1.7e9 + index for index in range(20)), *(1.7e12 + index for index in range(20))], 21),
        ([*(1.7e12 + index for index in range(20)), *(1.7e9 + index for index in range(20))], 21),
        ([1.7e12, 1.7e12 + 5, 1.7e9 + 6], 3),
    ],
    ids=["seconds and milliseconds in turns", "seconds, then milliseconds", "milliseconds, then seconds", "one"],
)
def test_two_units_in_one_file(tmp_path: Path, timestamps: list[float], line: int) -> None:
    content = "".join(
        json.dumps({"timestamp": time, "input_length": 5, "output_length": 9}) + "\n" for time in timestamps
    )
    with pytest.raises(WorkloadError, match=f"trace:{line}: .*the file mixes units; bring all of them to one"):
        read(tmp_path, content)


def test_logs_one_behind_the_other_and_shuffled_rows_are_not_two_units(tmp_path: Path) -> None:
    times = [index * 7.5 for index in range(200)]
    shuffled = np.random.default_rng(0).permutation(times).tolist()
    for arrivals in (times * 2, shuffled, times[::-1]):
        trace = read(tmp_path, vidur(*arrivals))
        assert len(trace.notes) == 1
        assert "sorted by arrival" in trace.notes[0]
        assert trace.arrival_s.tolist() == sorted(arrivals)
