"""``autokv trace`` as a user calls it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.cli.main import main
from autokv.data import example_trace
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.scenarios import SCENARIOS

Run = Callable[..., tuple[int, str, str]]
EXAMPLE = str(example_trace())


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv trace ARGS``: exit code, standard output, standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autokv", "trace", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


def same(one: WorkloadTrace, other: WorkloadTrace) -> bool:
    return bool(
        one.input_tokens.tolist() == other.input_tokens.tolist()
        and one.output_tokens.tolist() == other.output_tokens.tolist()
        and one.arrival_s.tolist() == pytest.approx(other.arrival_s.tolist(), abs=2e-6)
    )


def test_inspect_fits_a_terminal(trace: Run) -> None:
    code, out, err = trace("inspect", EXAMPLE)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for expected in ("400", "requests/s", "coefficient of variation", "in flight", "input tokens"):
        assert expected in out


def test_inspect_in_json_has_the_same_figures(trace: Run) -> None:
    document = json.loads(trace("inspect", EXAMPLE, "--json", "--tokens-per-second", "40")[1])
    real = read_trace(EXAMPLE)
    assert document["requests"] == 400
    assert document["input_tokens"]["p50"] == real.summary().input_tokens["p50"]
    assert document["arrivals"]["requests_per_s"] == pytest.approx(real.summary().requests_per_s)
    assert document["concurrency"]["tokens_per_second"] == 40
    assert (document["scenario"], document["notes"]) == (None, [])


def test_inspect_draws_a_page(trace: Run, tmp_path: Path) -> None:
    code, out, _ = trace("inspect", EXAMPLE, "--page", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (code, "page.html" in out) == (0, True)
    assert page.count("<figure id=") == 4
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", page)


def test_inspect_names_the_scenario_for_a_model(trace: Run, tiny_model_folder: Callable[..., Path]) -> None:
    model = tiny_model_folder("llama")
    code, out, _ = trace("inspect", EXAMPLE, "--model", model, "--hardware", "h100-sxm")
    assert code == 0
    found = json.loads(trace("inspect", EXAMPLE, "--model", model, "--hardware", "h100-sxm", "--json")[1])["scenario"]
    assert list(found["weights"]) == list(SCENARIOS)
    assert f"{found['name']} (" in out
    assert f"space       {found['space']}" in out
    assert "\N{REPLACEMENT CHARACTER}" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_memory_decides_what_a_prefix_cache_spares_and_the_scenario(
    trace: Run, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    # Two prompts of two blocks of 512 tokens in turn: a cache of one forgets it before it comes again.
    rows = [
        {
            "timestamp": 1000 * row,
            "input_length": 1024,
            "output_length": 5,
            "hash_ids": [2 * (row % 2), 2 * (row % 2) + 1],
        }
        for row in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = tiny_model_folder("llama")
    per_token = 4 * 3 * 2 * 16  # 16 bits of keys and values, three layers, two heads of 16 channels
    asked = ("inspect", tmp_path / "a.jsonl", "--model", model)
    for tokens, share in ((1024, 0.0), (2048, 38 / 40)):
        found = json.loads(trace(*asked, "--kv-memory", tokens * per_token, "--json")[1])
        assert found["cached"] == [tokens, pytest.approx(share)]
    weights = [
        json.loads(trace(*asked, "--kv-memory", size, "--json")[1])["scenario"]["weights"] for size in ("1MB", "90GB")
    ]
    assert weights[0] != weights[1]
    shown = trace(*asked, "--kv-memory", "2 MB")[1]
    assert "reuse in 2 MB" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "add --model" in trace("inspect", tmp_path / "a.jsonl", "--kv-memory", "1MB")[2]
    assert "is not a size" in trace(*asked, "--kv-memory", "much")[2]


def test_convert_there_and_back(trace: Run, tmp_path: Path) -> None:
    assert trace("convert", EXAMPLE, tmp_path / "a.jsonl")[0] == 0
    assert trace("convert", tmp_path / "a.jsonl", tmp_path / "b.csv")[0] == 0
    assert read_trace(tmp_path / "a.jsonl").format == "mooncake"
    assert same(read_trace(tmp_path / "b.csv"), read_trace(EXAMPLE))


def test_convert_to_parquet_keeps_everything(trace: Run, tmp_path: Path) -> None:
    assert trace("convert", EXAMPLE, tmp_path / "a.parquet")[0] == 0
    assert same(read_trace(tmp_path / "a.parquet"), read_trace(EXAMPLE))


def test_convert_says_what_was_left_out(trace: Run, tmp_path: Path) -> None:
    rows = [
        {"timestamp": 1000 * number, "input_length": 600, "output_length": 5, "hash_ids": [1, number]}
        for number in range(3)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = trace("convert", tmp_path / "a.jsonl", tmp_path / "b.csv")
    assert (code, out) == (0, f"3 requests over 2 s, 1.5 requests/s: written to {tmp_path / 'b.csv'}\n")
    assert err == "the format has no place for hashes of blocks of 512 tokens\n"


@pytest.mark.parametrize("name", ["log.csv", "link.csv", "hard.csv", "folder/../log.csv"])
@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("command", ["convert", "slice", "synthesize"])
def test_the_trace_that_is_read_is_never_written_onto(
    trace: Run, tmp_path: Path, command: str, force: list[str], name: str
) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(Path(EXAMPLE).read_bytes() + b"# a remark of my own that no reader keeps\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.csv").symlink_to(log)
    (tmp_path / "hard.csv").hardlink_to(log)
    before = log.read_bytes()
    out = tmp_path / name
    arguments = [out, "--requests", "5", "--like", log] if command == "synthesize" else [log, out]
    code, _, err = trace(command, *arguments, *force)
    assert (code, err.count("\n")) == (2, 1)
    assert "is the trace that is read; name another file" in err
    assert log.read_bytes() == before


@pytest.mark.parametrize("command", ["convert", "slice", "synthesize"])
def test_no_other_file_is_replaced_unasked(trace: Run, tmp_path: Path, command: str) -> None:
    out = tmp_path / "notes.csv"
    out.write_text("mine")
    arguments = [out, "--requests", "5", "--like", EXAMPLE] if command == "synthesize" else [EXAMPLE, out]
    code, _, err = trace(command, *arguments)
    assert (code, "exists already" in err, "--force" in err) == (2, True, True)
    assert out.read_text() == "mine"
    assert trace(command, *arguments, "--force")[0] == 0
    assert len(read_trace(out)) == (5 if command == "synthesize" else 400)


def test_a_refusal_ends_with_the_command_that_works(trace: Run, tmp_path: Path) -> None:
    log = tmp_path / "my log.csv"
    log.write_text("ts;in;out\n01/05/2025 12:00:00;10;20\n02/05/2025 12:00:05,5;30;40\n")
    code, _, err = trace("inspect", log)
    command = re.search("`autokv trace (.*)`$", " ".join(err.split()))
    assert (code, command is not None) == (2, True)
    assert command is not None
    code, out, err = trace(*shlex.split(command[1]), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["requests"] == 2


def test_the_size_of_a_block_can_be_said(trace: Run, tmp_path: Path) -> None:
    rows = [{"timestamp": 0, "input_length": 96, "output_length": 5, "hash_ids": [1, 2, 3]}] * 2
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for said in (["--hash-block-size", "40"], ["--block-size", "40"], ["--block-size=40"]):
        document = json.loads(trace("inspect", tmp_path / "a.jsonl", *said, "--json")[1])
        assert document["reuse"]["block_tokens"] == 40
    usage = trace("inspect", "--help")[1]
    assert "--hash-block-size" in usage
    assert "--block-size" not in usage.replace("--hash-block-size", "")


def test_slice_cuts_and_rescales(trace: Run, tmp_path: Path) -> None:
    whole = read_trace(EXAMPLE)
    out = tmp_path / "part.csv"
    assert trace("slice", EXAMPLE, out, "--start", "100", "--end", "500", "--max-input-tokens", "1000")[0] == 0
    part = read_trace(out)
    kept = (whole.arrival_s >= 100) & (whole.arrival_s < 500) & (whole.input_tokens <= 1000)
    assert part.input_tokens.tolist() == whole.input_tokens[kept].tolist()
    again = ("slice", EXAMPLE, out, "--rate", "8", "--scale-lengths", "0.5", "--requests", "50")
    assert trace(*again)[0] == 2
    assert trace(*again, "--force")[0] == 0
    faster = read_trace(out)
    assert faster.summary().requests_per_s == pytest.approx(8, rel=1e-5)
    assert faster.input_tokens.tolist() == [max(1, round(tokens * 0.5)) for tokens in whole.input_tokens[:50].tolist()]


def test_a_sample_depends_on_its_seed_alone(trace: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert trace("slice", EXAMPLE, tmp_path / f"{name}.csv", "--sample", "0.3", "--seed", str(seed))[0] == 0
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    "options",
    [
        ["--rate", "3"],
        ["--rate", "3", "--arrivals", "gamma", "--cv", "2"],
        ["--rate", "3", "--arrivals", "diurnal", "--period", "600", "--amplitude", "0.9"],
    ],
    ids=["poisson", "gamma", "diurnal"],
)
def test_synthesize(trace: Run, tmp_path: Path, options: list[str]) -> None:
    lengths = ["--input-tokens", "700,2000", "--output-tokens", "130,450"]
    for name in "ab":
        assert trace("synthesize", tmp_path / f"{name}.csv", "--requests", "5000", *lengths, *options)[0] == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    made = read_trace(tmp_path / "a.csv").summary()
    assert made.requests_per_s == pytest.approx(3, rel=0.1)
    assert made.input_tokens["p95"] == pytest.approx(2000, rel=0.1)


def test_synthesize_like_a_real_trace(trace: Run, tmp_path: Path) -> None:
    out = tmp_path / "more.csv"
    assert trace("synthesize", out, "--requests", "3000", "--like", EXAMPLE, "--rate", "2")[0] == 0
    made, real = read_trace(out), read_trace(EXAMPLE)
    pairs = set(zip(real.input_tokens.tolist(), real.output_tokens.tolist(), strict=True))
    assert set(zip(made.input_tokens.tolist(), made.output_tokens.tolist(), strict=True)) <= pairs
    assert made.summary().requests_per_s == pytest.approx(2, rel=1e-3)


def test_columns_and_units_can_be_named(trace: Run, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("ts,prompt,gen,who\n0,100,5,1\n1500,200,6,1\n4000,300,7,2\n")
    columns = [f"--column={pair}" for pair in ("arrival=ts", "input_tokens=prompt", "output_tokens=gen", "session=who")]
    document = json.loads(trace("inspect", tmp_path / "own.csv", *columns, "--time-unit", "ms", "--json")[1])
    assert (document["requests"], document["duration_s"]) == (3, 4.0)
    assert (document["input_tokens"]["mean"], document["output_tokens"]["max"]) == (200, 7)
    assert document["sessions"]["count"] == 2


def test_texts_are_counted_by_a_models_tokenizer(
    trace: Run, tmp_path: Path, tiny_model_folder: Callable[..., Path]
) -> None:
    said = [{"from": "human", "value": "12345"}, {"from": "gpt", "value": "123"}]
    (tmp_path / "chats.json").write_text(json.dumps([{"id": "a", "conversations": said}]))
    code, _, err = trace("inspect", tmp_path / "chats.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "tokenizer" in err
    arguments = (tmp_path / "chats.json", "--tokenizer", tiny_model_folder("llama"), "--json")
    document = json.loads(trace("inspect", *arguments)[1])
    assert (document["input_tokens"]["max"], document["output_tokens"]["max"]) == (5, 3)


def test_bad_rows_are_shown_and_their_share_can_be_raised(trace: Run, tmp_path: Path) -> None:
    rows = [f"2024-01-01 00:00:{number:02}.0000000,100,5\n" for number in range(10)]
    rows[4] = "2024-01-01 00:00:04.0000000,100,-5\n"
    (tmp_path / "bad.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    code, _, err = trace("inspect", tmp_path / "bad.csv")
    assert (code, err.count("\n")) == (2, 1)
    assert "bad.csv:6" in err
    code, out, _ = trace("inspect", tmp_path / "bad.csv", "--max-bad-rows", "0.2")
    assert code == 0
    assert "1 left out (lines 6)" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "nothing.csv"], "nothing.csv: does not exist; check the path"),
        (["inspect", EXAMPLE, "--hardware", "h100"], "--hardware: says nothing without a model; add --model"),
        (["inspect", EXAMPLE, "--column", "arrival"], "--column: 'arrival' is not NAME=COLUMN"),
        (["inspect", EXAMPLE, "--time-unit", "days"], "--time-unit: is 'days'; choose from s, ms, us, ns, iso"),
        (["convert", EXAMPLE, "OUT.xlsx"], "cannot write the file type '.xlsx'"),
        (["slice", EXAMPLE, "OUT.csv", "--rate", "2", "--rate-scale", "2"], "--rate: cannot be combined"),
        (["slice", EXAMPLE, "OUT.csv", "--sample", "2"], "share: is 2.0; give more than 0 and at most 1"),
        (["slice", EXAMPLE, "OUT.csv", "--start", "1e9"], "no request arrives from 1e+09 s on; the trace lasts"),
        (["synthesize", "OUT.csv", "--requests", "5"], "--rate: is missing"),
        (["synthesize", "OUT.csv", "--requests", "5", "--rate", "1"], "--input-tokens: is missing"),
        (
            ["synthesize", "OUT.csv", "--requests", "5", "--rate", "1", "--input-tokens", "5"],
            "--input-tokens: '5' is not MEDIAN,P95",
        ),
        (["synthesize", "OUT.csv", "--requests", "5", "--rate", "1", "--cv", "2"], "--cv: is of gamma arrivals"),
        (
            ["synthesize", "OUT.csv", "--requests", "5", "--rate", "1", "--arrivals", "gamma"],
            "--cv: is missing",
        ),
        (
            ["synthesize", "OUT.csv", "--requests", "5", "--like", EXAMPLE, "--input-tokens", "1,2"],
            "--like: takes its lengths from the trace",
        ),
    ],
)
def test_nonsense_is_one_line(trace: Run, tmp_path: Path, arguments: list[str], expected: str) -> None:
    code, out, err = trace(*(str(tmp_path / each) if each.startswith("OUT") else each for each in arguments))
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("OUT*"))
