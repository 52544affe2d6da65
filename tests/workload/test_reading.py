"""Reading traces, against hand-written files and against naive parsers on real traces."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload import source as source_module
from autokv.workload.readers.columns import MAX_TOKENS

TRACES = Path(__file__).parents[3] / "shared/data/traces"
real_traces = pytest.mark.skipif(not TRACES.is_dir(), reason="the real traces are not here")

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 23:59:59.9999999,879,55
2023-11-17 00:00:00.0000000,91,16
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 1500, "input_length": 7322, "output_length": 490, "hash_ids": [0, 2]}
{"timestamp": 27482, "input_length": 9, "output_length": 1, "hash_ids": []}
"""
SAMPLES = {"azure": AZURE, "mooncake": MOONCAKE}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(trace: WorkloadTrace) -> list[tuple[float, int, int]]:
    return list(zip(trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


def many_rows(count: int) -> list[str]:
    return [f"2023-11-16 18:{index // 60:02}:{index % 60:02}.0000000,{100 + index},7" for index in range(count)]


def azure(*lines: str) -> str:
    return "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines, ""])


def test_azure(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "calls.txt", AZURE))
    assert (trace.name, trace.format, trace.rejected.count) == ("calls", "azure", 0)
    assert trace.arrival_s.dtype == np.float64
    assert trace.input_tokens.dtype == trace.output_tokens.dtype == np.int64
    seconds = [0.0, 4.3145790, 20653.3194099, 20653.31941]
    assert trace.arrival_s.tolist() == pytest.approx(seconds, abs=1e-9)
    assert trace.input_tokens.tolist() == [374, 396, 879, 91]
    assert trace.output_tokens.tolist() == [44, 109, 55, 16]


def test_mooncake_under_a_csv_name(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "calls.csv", MOONCAKE))
    assert trace.format == "mooncake"
    assert rows(trace) == [(0.0, 6758, 500), (1.5, 7322, 490), (27.482, 9, 1)]


@pytest.mark.parametrize(
    "content",
    [
        AZURE.replace("\n", "\r\n"),
        AZURE.rstrip("\n"),
        "\ufeff" + AZURE,
        "\n\n" + AZURE + "\n\n",
        AZURE.replace(" ", "T", 1).replace(" 18", "T18"),
        AZURE.replace(",374,", ',"374",'),
        "\n".join(",".join([*line.split(",")[::-1], "x"]) for line in AZURE.splitlines()),
    ],
    ids=["crlf", "no final newline", "byte order mark", "blank lines", "T", "quoted", "other order of columns"],
)
def test_azure_dialects(tmp_path: Path, content: str) -> None:
    assert rows(read_trace(write(tmp_path / "a", content))) == rows(read_trace(write(tmp_path / "b", AZURE)))


def test_azure_2024_timestamps_have_a_zone(tmp_path: Path) -> None:
    content = azure("2024-05-12 00:00:00+00:00,10,2", "2024-05-12 00:00:00.009930+00:00,11,3")
    assert rows(read_trace(write(tmp_path / "a", content))) == [(0.0, 10, 2), (0.00993, 11, 3)]


def test_rows_are_sorted_by_arrival_and_keep_their_order_in_a_tie(tmp_path: Path) -> None:
    second, first, tie = (
        json.dumps({"timestamp": timestamp, "input_length": tokens, "output_length": 1})
        for timestamp, tokens in ((900, 1), (400, 2), (900, 3))
    )
    assert rows(read_trace(write(tmp_path / "a", "\n".join([second, first, tie])))) == [
        (0.0, 2, 1),
        (0.5, 1, 1),
        (0.5, 3, 1),
    ]


def test_a_few_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    lines = many_rows(200)
    lines[49] = "2023-11-16 18:00:49.0000000,-5,7"
    lines[120] = "2023-11-16 18:02:00.0000000,nan,7"
    trace = read_trace(write(tmp_path / "a", azure(*lines)))
    assert len(trace) == 198
    assert (trace.rejected.count, trace.rejected.lines) == (2, (51, 122))
    assert "-5 input tokens" in trace.rejected.reason
    assert trace.input_tokens.tolist() == [100 + index for index in range(200) if index not in (49, 120)]


def test_more_than_one_percent_of_bad_rows_refuses_the_file(tmp_path: Path) -> None:
    lines = many_rows(200)
    for index in (3, 77, 150):
        lines[index] = lines[index].replace(",7", ",-7")
    path = write(tmp_path / "a.csv", azure(*lines))
    with pytest.raises(WorkloadError, match=r"3 of 200 rows are bad.*-7 output tokens.*at most 1%") as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:5"


TOKENS = st.integers(1, MAX_TOKENS)
BAD_TOKENS = ["0", "-1", "nan", "inf", "0x10", "", "x", "3.5", str(MAX_TOKENS + 1), "9" * 30]


@pytest.mark.parametrize(
    ("row", "tokens"),
    [
        *(("2023-11-16 18:15:46,{},5", tokens) for tokens in BAD_TOKENS),
        *(("2023-11-16 18:15:46,5,{}", tokens) for tokens in BAD_TOKENS[1:]),
    ],
)
def test_azure_bad_tokens(tmp_path: Path, row: str, tokens: str) -> None:
    path = write(tmp_path / "a.csv", azure(row.format("5"), row.format(tokens)))
    with pytest.raises(WorkloadError, match="1 of 2 rows are bad") as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:3"


@pytest.mark.parametrize(
    "timestamp",
    ["", "yesterday", "2023-13-01 00:00:00", "2023-02-30 00:00:00", "2023-11-16 25:00:00", "0001-01-01 00:00:00",
     "9999-01-01 00:00:00", "2023-11-16", "2023-11-16 18:15:", "16/11/2023 18:15", "1700158546"],
)  # fmt: skip
def test_azure_bad_timestamps(tmp_path: Path, timestamp: str) -> None:
    path = write(tmp_path / "a.csv", azure("2023-11-16 18:15:46,5,5", f"{timestamp},5,5"))
    with pytest.raises(WorkloadError, match=r"1 of 2 rows are bad.*(timestamp|month|day|hour)") as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:3"


@pytest.mark.parametrize("field", ["timestamp", "input_length", "output_length"])
@pytest.mark.parametrize("value", ["null", '"x"', "true", "NaN", "Infinity", "1e400", "-1", "[5]", "1" + "0" * 400])
def test_mooncake_bad_values(tmp_path: Path, field: str, value: str) -> None:
    good = {"timestamp": 0, "input_length": 5, "output_length": 5}
    bad = json.dumps({**good, field: "@"}).replace('"@"', value)
    path = write(tmp_path / "a.jsonl", f"{json.dumps(good)}\n{bad}\n")
    with pytest.raises(WorkloadError, match="1 of 2 rows are bad") as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no requests"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens", "no requests"),
        ("time,prompt,answer\n1,2,3\n", "unrecognized trace format"),
        ('{"timestamp": 0, "input_length": 5}\n', "unrecognized trace format"),
        ("a\0b,c\n1,2\n", "unrecognized trace format"),
        (AZURE + "2023-11-17 00:00:01\0,5,5\n", "is binary"),
        ("[" * 100_000, "unrecognized trace format"),
        (b"\x1f\x8b\x08\x00\x00\x00", "cut off"),
        (b"\x89PNG\xff\xfe", "is binary"),
        (AZURE + "2023-11-17 00:00:01.0000", "cut off in its last row"),
        (AZURE + "2023-11-17 00:00:01.0000000,5,", "cut off in its last row"),
        (MOONCAKE + '{"timestamp": 30000, "inp', "cut off in its last row"),
    ],
)
def test_bad_files(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path / "trace.csv", content)
    with pytest.raises(WorkloadError, match=message) as caught:
        read_trace(path)
    assert caught.value.field is not None
    assert caught.value.field.startswith(str(path))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("inputs", [0, 374])
def test_a_call_without_output_tokens_failed_and_is_left_out(tmp_path: Path, inputs: int, ending: str) -> None:
    lines = azure(*many_rows(20)).rstrip("\n")
    path = write(tmp_path / "a", f"{lines}\n2023-11-16 19:14:08.0000000,{inputs},0{ending}")
    trace = read_trace(path)
    assert trace.input_tokens.tolist() == [100 + index for index in range(20)]
    assert trace.rejected.count == 0
    assert trace.notes == ("left out: 1 call that failed, without output tokens",)


def test_a_trace_of_failed_calls_has_no_requests(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="has no requests"):
        read_trace(write(tmp_path / "a", azure("2023-11-16 18:15:46,5,0")))


def test_a_whole_last_row_that_makes_no_sense_is_no_cut(tmp_path: Path) -> None:
    whole = MOONCAKE + '{"timestamp": 30000, "input_length": -4, "output_length": 5}'
    assert read_trace(write(tmp_path / "a", whole), max_rejected_share=0.5).rejected.lines == (4,)


@pytest.mark.parametrize(
    "text",
    ["2025-05-01 12:00:00+00", "2025-05-01T12:00:00+0000", "2025-05-01 12:00:00.000000 UTC", "2025-05-01 12:00",
     "2025-05-01 12:00:00,000", "2025-05-01T12:00:00.000000000999Z", "2025/05/01 12:00:00", "2025-5-1 12:00:00 GMT",
     "2025-05-01T14:00+02", "2025-05-01 07:30:00.000 -0430"],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False], ids=["block", "lines"])
def test_dates_as_people_write_them(tmp_path: Path, text: str, at_once: bool) -> None:
    # A bad row makes the others be read one by one.
    more = [] if at_once else ["2025-05-01 12:00:04.25,x,5"]
    lines = [f'"{text}",5,5', "2025-05-01 12:00:04.25,6,5", *more]
    assert rows(read_trace(write(tmp_path / "a", azure(*lines)), max_rejected_share=0.5)) == [(0, 5, 5), (4.25, 6, 5)]


def test_numbers_that_are_written_as_text(tmp_path: Path) -> None:
    lines = [
        '{"timestamp": "0", "input_length": "5", "output_length": "6"}',
        '{"timestamp": "1500.5", "input_length": 7, "output_length": "8"}',
    ]
    assert rows(read_trace(write(tmp_path / "a", "\n".join(lines)))) == [(0.0, 5, 6), (1.5005, 7, 8)]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_truncated_last_row_is_refused_in_a_long_file_too(tmp_path: Path, name: str) -> None:
    lines = SAMPLES[name].splitlines()
    body = "\n".join([lines[0], *(lines[1:2] * 1000), lines[2][:20]])
    path = write(tmp_path / "a", body)
    with pytest.raises(WorkloadError, match="cut off in its last row") as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:1002"


def test_missing_folder_and_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkloadError, match="does not exist"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(WorkloadError, match="not a regular file"):
        read_trace(tmp_path)
    monkeypatch.setattr(source_module, "MAX_TRACE_BYTES", len(AZURE) - 1)
    with pytest.raises(WorkloadError, match=f"{len(AZURE)} bytes, more than the limit of {len(AZURE) - 1}"):
        read_trace(write(tmp_path / "a", AZURE))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(10**11, 4 * 10**12), st.integers(1, MAX_TOKENS), st.integers(1, MAX_TOKENS)), min_size=1
    )
)
def test_any_good_mooncake_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, int, int]]
) -> None:
    keys = ("timestamp", "input_length", "output_length")
    lines = [json.dumps(dict(zip(keys, request, strict=True))) for request in requests]
    trace = read_trace(write(tmp_path_factory.mktemp("trace") / "a", "\n".join(lines)))
    ordered = sorted(requests, key=lambda request: request[0])
    assert trace.input_tokens.tolist() == [request[1] for request in ordered]
    assert trace.output_tokens.tolist() == [request[2] for request in ordered]
    assert trace.arrival_s.tolist() == pytest.approx([(request[0] - ordered[0][0]) / 1e3 for request in ordered])


@real_traces
@pytest.mark.parametrize("kind", ["conv", "code"])
def test_real_azure_against_the_csv_module(kind: str) -> None:
    path = TRACES / f"AzureLLMInferenceTrace_{kind}.csv"
    with path.open(newline="") as file:
        naive = list(csv.DictReader(file))
    trace = read_trace(path)
    assert (trace.format, trace.rejected.count) == ("azure", 0)
    assert trace.input_tokens.tolist() == [int(row["ContextTokens"]) for row in naive]
    assert trace.output_tokens.tolist() == [int(row["GeneratedTokens"]) for row in naive]
    start = datetime.fromisoformat(naive[0]["TIMESTAMP"])
    for row, arrival in list(zip(naive, trace.arrival_s.tolist(), strict=True))[::97]:
        # datetime drops the seventh digit
        assert arrival == pytest.approx((datetime.fromisoformat(row["TIMESTAMP"]) - start).total_seconds(), abs=2e-6)


@real_traces
def test_real_mooncake_against_the_json_module() -> None:
    path = TRACES / "mooncake_conversation.jsonl"
    naive = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows(read_trace(path)) == [
        (record["timestamp"] / 1e3, record["input_length"], record["output_length"]) for record in naive
    ]


@real_traces
def test_a_real_trace_reads_the_same_with_a_bad_row_in_it(tmp_path: Path) -> None:
    path = TRACES / "AzureLLMInferenceTrace_code.csv"
    lines = path.read_bytes().split(b"\r\n")
    lines.insert(4000, b"2023-11-16 19:00:00,broken")
    whole, damaged = read_trace(path), read_trace(write(tmp_path / "a", b"\r\n".join(lines)))
    assert damaged.rejected.lines == (4001,)
    assert rows(damaged) == rows(whole)


@pytest.mark.parametrize(
    ("text", "what", "read"),
    [
        (
            '{"pipeline": {"eviction": {"method": "snapkv"}}}',
            "a configuration",
            "autokv evaluate --model MODEL --config",
        ),
        ("schema_version: autokv/v1\npipeline:\n  eviction:\n", "a configuration", "--config"),
        ("name: mine\nstages:\n  eviction:\n", "a search space", "autokv tune --model MODEL --space"),
    ],
)
def test_documents_of_our_own_are_named_with_what_reads_them(tmp_path: Path, text: str, what: str, read: str) -> None:
    path = tmp_path / "a file"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=f"is {what}, not a trace") as caught:
        read_trace(path)
    assert f"{read} '{path}'`" in str(caught.value)
