"""``autokv simulate`` as a user calls it: a tiny model, a short trace, costs that are given or really measured."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, get_args

import pytest

from autokv.cli import simulate
from autokv.cli.main import main
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.hardware import Rate, find
from autokv.runs.judged import Judged
from autokv.serving import CostModel, Curve, Grid, SequenceBytes
from autokv.serving.engine_options import Order, Preemption

NAMES = ("max_num_batched_tokens", "max_num_seqs", "block_size")
Run = Callable[..., tuple[int, str, str]]
INT8 = {
    "method": "integer",
    "key": {"bits": 8, "axis": "channel", "group_size": 32},
    "value": {"bits": 8, "axis": "token", "group_size": 16},
    "residual_tokens": 32,
}
BYTES = {"none": 768.0, "fp8": 384.0, "integer": 450.0}
"""Of a token, all layers, in the costs that are given."""


class GivenCosts:
    """A meter that measures nothing."""

    thorough: list[object] = []  # noqa: RUF012 - of the calls, in their order

    def __init__(self, *_: object, thorough: bool, **__: object) -> None:
        self.thorough.append(thorough)

    def measure(self, config: CompressionConfig) -> CostModel:
        curve = Curve((1.0, 1024.0), (0.001, 0.05))
        return CostModel(
            rest=curve,
            prefill_attention=Curve((1.0, 1024.0), (0.0, 0.01)),
            compress=Curve((1.0,), (0.0,)),
            decode_attention=Grid((1, 4), (Curve((1.0, 1024.0), (1e-5, 1e-4)), Curve((1.0, 1024.0), (4e-5, 4e-4)))),
            sequence=SequenceBytes(BYTES[config.pipeline.quantization.method]),
        )


@pytest.fixture
def given_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autokv.runs.simulated_engines.CostMeter", GivenCosts)


@pytest.fixture
def autokv(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run ``autokv simulate ARGS`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autokv.hardware.measuring.SECONDS_PER_RATE", 0.001)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()  # what making the model left
        monkeypatch.setattr(sys, "argv", ["autokv", "simulate", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def options(tiny_model_folder: Callable[..., Path], tmp_path: Path) -> list[object]:
    config = tmp_path / "int8.json"
    config.write_text(json.dumps({"pipeline": {"quantization": INT8}}))
    return ["--model", tiny_model_folder("llama"), "--workload", trace(tmp_path), "--config", config]


def trace(folder: Path, requests: int = 60, tokens: int = 300, gap: float = 0.1, **more: Any) -> Path:  # noqa: ANN401
    path = folder / "trace.jsonl"
    rows = [
        {"timestamp": round(1000 * gap * row), "input_length": tokens + row, "output_length": 20 + row % 7, **more}
        for row in range(requests)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def refused(result: tuple[int, str, str]) -> str:
    """The one line of a refusal."""
    code, _, err = result
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1, err
    return err


def test_costs_are_measured_once_and_the_trace_is_served(autokv: Run, options: list[object], tmp_path: Path) -> None:
    few = [*options, "--requests", 8, "--kv-memory", "1MB", "--max-num-batched-tokens", 64]
    code, out, err = autokv(*few, "--page", tmp_path / "page.html")
    assert code == 0, err
    for word in ("K8V8", "16-bit", "fp8", "goodput (requests/s)", "requests that fit at once", "The first 8 of 60"):
        assert word in out
    assert "<!doctype html>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    # The second time nothing is measured, so that the answer is the same to the last digit.
    first, second = (json.loads(autokv(*few, "--json")[1]) for _ in range(2))
    assert first == second
    eight, full, float8 = first["runs"]
    assert full["concurrent_requests"] < float8["concurrent_requests"]
    assert full["concurrent_requests"] < eight["concurrent_requests"]
    assert first["facts"]["model"]
    assert all(run["requests"] == 8 and not run["refused"] for run in first["runs"])


@pytest.mark.usefixtures("given_costs")
def test_without_baselines_there_is_one_column(autokv: Run, options: list[object]) -> None:
    code, out, err = autokv(*options, "--no-baseline", "--json")
    assert code == 0, err
    assert [run["name"] for run in json.loads(out)["runs"]] == ["K8V8 g32/16, residual 32"]


@pytest.mark.usefixtures("given_costs")
def test_the_options_reach_the_server(autokv: Run, options: list[object]) -> None:
    code, out, err = autokv(
        *options, "--json", "--order", "shortest_first", "--preemption", "recompute", "--max-num-batched-tokens", 128,
        "--max-num-seqs", 3, "--block-size", 8, "--kv-memory", "2 MiB", "--slo", "ttft_ms=100,tpot_ms=20",
        "--output-length-ratio", 2, "--max-rate",
    )  # fmt: skip
    assert code == 0, err
    document = json.loads(out)
    assert document["slo"] == {"ttft_ms": 100, "tpot_ms": 20}
    assert "shortest first, at most 128 tokens per iteration and 3 requests in flight" in document["facts"]["server"]
    assert "blocks of 8 tokens" in document["facts"]["KV memory"]
    candidate, full, _ = document["runs"]
    assert candidate["max_running"] <= 3
    assert candidate["capacity_bytes"] == 2 << 20
    assert candidate["max_rate"]["requests_per_s"] > 0
    # Outputs grow with the configuration, not with 16 bits.
    assert candidate["duration_s"] * candidate["throughput_tokens_per_s"] == pytest.approx(
        2 * full["duration_s"] * full["throughput_tokens_per_s"]
    )


@pytest.mark.usefixtures("given_costs")
def test_options_are_taken_by_their_earlier_names(autokv: Run, options: list[object], tmp_path: Path) -> None:
    earlier, now = (
        [name for option, value in zip(names, (96, 5, 8), strict=True) for name in (option, str(value))]
        for names in (
            ("--max-batched-tokens", "--max-sequences", "--page-tokens"),
            ("--max-num-batched-tokens", "--max-num-seqs", "--block-size"),
        )
    )
    found = [json.loads(autokv(*options, "--no-baseline", "--json", *more)[1]) for more in (earlier, now)]
    assert found[0] == found[1]
    assert "96 tokens per iteration and 5 requests in flight" in found[0]["facts"]["server"]
    code, out, _ = autokv("--help")
    assert code == 0
    assert all((name in out, old in out) == (True, False) for name, old in zip(now[::2], earlier[::2], strict=True))
    assert "is 0" in refused(autokv(*options, "--max-sequences", 0))
    # What was a trace's --block-size before is the engine's here; a trace's has a name of its own.
    hashed = trace(tmp_path, requests=2, tokens=48, hash_ids=[1, 2])
    own = ["--workload", hashed, "--prefix-caching", "--hash-block-size", 32]
    noted = [
        any(
            "--block-size is that of KV memory" in note
            for note in json.loads(autokv(*options, *more, "--json")[1])["notes"]
        )
        for more in ([*own, "--block-size", 16], [*own[:-2], "--block-size", 16], own[:-2])
    ]
    assert noted == [False, True, False]
    assert "are not whole blocks of 24" in refused(autokv(*options, *own, "--block-size", 24))


def test_the_policies_are_those_of_the_scheduler() -> None:
    assert (get_args(simulate.Order), get_args(simulate.Preemption)) == (get_args(Order), get_args(Preemption))


@pytest.mark.usefixtures("given_costs")
def test_rates(autokv: Run, options: list[object]) -> None:
    own, double, given = (
        json.loads(autokv(*options, "--no-baseline", "--json", *more)[1])["requests_per_s"]
        for more in ([], ["--rate-scale", 2], ["--rate", 3.5])
    )
    assert double == pytest.approx(2 * own)
    assert given == pytest.approx(3.5)


@pytest.mark.usefixtures("given_costs")
def test_another_device_is_a_prediction_and_says_so(autokv: Run, options: list[object]) -> None:
    code, out, err = autokv(*options, "--hardware", "h100-sxm", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert "(predicted, unvalidated)" in document["facts"]["device"]
    assert all(any("Predicted for" in note for note in run["notes"]) for run in document["runs"])
    assert document["runs"][0]["capacity_bytes"] > 50e9
    assert sum("Predicted for" in note for note in document["notes"]) == 1


@pytest.mark.usefixtures("given_costs")
def test_a_prediction_repeats_whatever_is_probed(
    autokv: Run, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)
    monkeypatch.setattr(
        "autokv.hardware.measuring._summary",
        lambda values: Rate(median(values) * chance.uniform(0.1, 10.0), 0.0, len(values)),
    )
    elsewhere = [*options, "--hardware", "h100-pcie", "--json"]
    first, second = (autokv(*elsewhere)[1] for _ in range(2))
    assert json.loads(first)["runs"] == json.loads(second)["runs"]
    assert json.loads(first)["basis"] == "estimated"
    fresh = json.loads(autokv(*elsewhere, "--database", "sqlite:///fresh.db")[1])
    assert fresh["runs"] != json.loads(first)["runs"], "the probe does jitter"


def test_tables_of_kernel_times_need_no_weights(
    autokv: Run, options: list[object], silicon_tables: Path, tmp_path: Path
) -> None:
    without = shutil.copytree(str(options[1]), tmp_path / "outline", ignore=shutil.ignore_patterns("*.safetensors"))
    code, out, err = autokv("--model", without, *options[2:], "--hardware", "h100-sxm", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["basis"] == "silicon"
    assert document["verdict"].startswith("predicted from kernel tables: ")
    assert " here" not in document["verdict"]
    assert document["facts"]["model"].endswith("in bfloat16")
    candidate, full, float8 = document["runs"]
    assert candidate["tpot_ms"]["p50"] < full["tpot_ms"]["p50"]
    assert any("follows from its bytes" in note for note in candidate["notes"])
    assert not any("follows from its bytes" in note for note in [*full["notes"], *float8["notes"]])


@pytest.mark.usefixtures("given_costs")
def test_without_tables_it_says_where_there_are_some(
    autokv: Run, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autokv.hardware.silicon.PACKAGE", "no_such_package_here")
    code, out, err = autokv(*options, "--hardware", "h100-sxm", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["verdict"].startswith("predicted, unvalidated: ")
    assert any("autokv[silicon]" in note for note in document["notes"])
    assert "bfloat16" in document["facts"]["model"]


def test_a_servers_own_log_gives_the_costs(autokv: Run, options: list[object], tmp_path: Path) -> None:
    lines = [
        {"queued_ts": row / 4, "first_token_ts": row / 4 + 0.1, "last_token_ts": row / 4 + 1.1}
        | {"input_tokens": 200 + row, "output_tokens": 51}
        for row in range(40)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "--calibrate: says nothing of the server's device" in refused(autokv(*options, "--calibrate", log))
    code, out, err = autokv(*options, "--calibrate", log, "--hardware", "l4", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["basis"] == "fitted"
    assert document["calibration"]["fitted"] == 27
    assert any("Costs fitted to 27 requests of log.jsonl" in note for note in document["notes"])
    assert any("they hold only for the server that wrote the log" in note for note in document["notes"])
    assert not any("warning" in note for note in document["notes"])
    log.write_text("".join(f"{json.dumps({**line, 'model': 'org/other'})}\n" for line in lines))
    noted = json.loads(autokv(*options, "--calibrate", log, "--hardware", "l4", "--json")[1])["notes"]
    assert any("warning: log.jsonl names the model org/other, not " in note for note in noted)
    assert document["runs"][1]["tpot_ms"]["p50"] == pytest.approx(20, rel=0.25)
    log.write_text("".join(f"{json.dumps({k: v for k, v in line.items() if k[0] != 'l'})}\n" for line in lines))
    assert "no time of the last token" in refused(autokv(*options, "--calibrate", log, "--hardware", "l4"))


@pytest.mark.usefixtures("given_costs")
def test_a_recommended_document_is_simulated_as_it_was_judged(
    autokv: Run, options: list[object], tmp_path: Path
) -> None:
    serving = {
        "device": find("h100-pcie").name,
        "hardware": "h100-pcie",
        "slo": {"ttft_ms": 123.0, "tpot_ms": 45.0},
        "kv_memory_bytes": 3e6,
        "options": {"max_batched_tokens": 96, "max_sequences": 5, "unheard_of": 1},
        "rate": 7.5,
        "sample": 40,
        "seed": 3,
    }
    document: dict[str, Any] = {
        "pipeline": {"quantization": INT8},
        "workload": {"trace": "trace", "requests": 60, "serving": serving},
    }
    (tmp_path / "int8.json").write_text(json.dumps(document))
    GivenCosts.thorough.clear()
    code, out, err = autokv(*options, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["slo"] == serving["slo"]
    assert not found["slo_is_default"]
    assert 20 < found["runs"][0]["requests"] <= 40
    assert any("of 60 requests" in note for note in found["notes"])
    assert found["runs"][0]["capacity_bytes"] == 3e6
    assert found["requests_per_s"] == pytest.approx(7.5)
    assert "96 tokens per iteration and 5 requests in flight" in found["facts"]["server"]
    assert "H100 PCIe" in found["facts"]["device"]
    assert GivenCosts.thorough == [False], "the same times, under the same keys"
    assert any("the SLO, the KV memory and the scheduling are those" in note for note in found["notes"])
    # Another trace of that name keeps its own rate and length.
    document["workload"] |= {"requests": 61}
    (tmp_path / "int8.json").write_text(json.dumps(document))
    assert json.loads(autokv(*options, "--json")[1])["runs"][0]["requests"] == 60
    # What is given wins; on another device only the SLO, which is the user's own wish, still holds.
    other = json.loads(autokv(*options, "--json", "--slo", "ttft_ms=9", "--hardware", "here")[1])
    assert other["slo"]["ttft_ms"] == 9
    assert other["runs"][0]["capacity_bytes"] != 3e6
    assert "5 requests in flight" not in other["facts"]["server"]
    mine = json.loads(autokv(*options, "--json", "--hardware", "here")[1])
    assert (mine["slo"], mine["slo_is_default"]) == (serving["slo"], False)
    # An SLO that followed from how fast the other device is holds on that device alone.
    serving["notes"] = ["SLO: TTFT <= 123 ms and TPOT <= 45 ms, five times what an idle server takes"]
    (tmp_path / "int8.json").write_text(json.dumps(document))
    assert json.loads(autokv(*options, "--json")[1])["slo"] == serving["slo"]
    new = json.loads(autokv(*options, "--json", "--hardware", "here")[1])
    assert new["slo_is_default"]
    assert new["slo"] != serving["slo"]
    said = (
        "the search's SLO (TTFT <= 123 ms and TPOT <= 45 ms) is not used: it followed from an idle server on H100 PCIe"
    )
    assert any(note.startswith(said[:90]) for note in new["notes"])
    given = json.loads(autokv(*options, "--json", "--hardware", "here", "--slo", "ttft_ms=9")[1])
    assert given["slo"]["ttft_ms"] == 9
    assert not any("is not used" in note for note in given["notes"])
    # Facts that nobody can read are no facts.
    document["workload"] = {"serving": {"slo": {"ttft_ms": -1}, "options": 5, "kv_memory_bytes": "much", "rate": True}}
    (tmp_path / "int8.json").write_text(json.dumps(document))
    assert json.loads(autokv(*options, "--json")[1])["slo_is_default"]


@pytest.mark.parametrize("names", [("max_batched_tokens", "max_sequences", "page_tokens"), NAMES])
def test_the_options_of_a_document_load_by_their_earlier_names(names: tuple[str, ...]) -> None:
    """As ``tune`` wrote them before they were called as vLLM calls them, and as it writes them."""
    stored = dict(zip(names, (96, 5, 8), strict=True)) | {"order": "shortest_first", "unheard_of": 1}
    document = ConfigurationDocument.parse({"pipeline": {}, "workload": {"serving": {"options": stored}}})
    found = Judged.of(document).options
    assert found is not None
    assert dict(zip(NAMES, (96, 5, 8), strict=True)).items() <= asdict(found).items()
    assert found.order == "shortest_first"


@pytest.mark.usefixtures("given_costs")
def test_the_configurations_own_model_and_lengths_are_taken(autokv: Run, options: list[object], tmp_path: Path) -> None:
    document = {
        "pipeline": {"quantization": INT8},
        "model": {"name": str(options[1])},
        "measured": {"output_length_ratio": {"mean": 1.5}},
    }
    (tmp_path / "int8.json").write_text(json.dumps(document))
    code, out, err = autokv(*options[2:], "--json")
    assert code == 0, err
    assert json.loads(out)["facts"]["outputs"] == "1.5 times as long as the trace's"


@pytest.mark.usefixtures("given_costs")
def test_16_bits_need_no_baseline_of_themselves(autokv: Run, options: list[object], tmp_path: Path) -> None:
    (tmp_path / "int8.json").write_text('{"pipeline": {}}')
    code, out, err = autokv(*options, "--json")
    assert code == 0, err
    assert [run["name"] for run in json.loads(out)["runs"]] == ["16-bit cache", "fp8"]


@pytest.mark.usefixtures("given_costs")
def test_what_cannot_be_used_is_one_line_with_the_remedy(autokv: Run, options: list[object], tmp_path: Path) -> None:
    for more, words in (
        (["--slo", "ttft=500"], "--slo: 'ttft' is no limit; use ttft_ms or tpot_ms"),
        (["--slo", "ttft_ms"], "--slo: 'ttft_ms' is not"),
        (["--slo", "ttft_ms=-1"], "ttft_ms: is -1"),
        (["--rate", "2", "--rate-scale", "2"], "--rate-scale: a rate and a scale"),
        (["--rate", "0"], "--rate: is 0"),
        (["--kv-memory", "lots"], "--kv-memory: 'lots' is not a size"),
        (["--kv-memory", "1kB"], "less than a block"),
        (["--max-num-batched-tokens", "0"], "--max-num-batched-tokens: is 0"),
        (["--max-num-seqs", "100000"], "--max-num-seqs: 100000 requests in flight need"),
        (["--hardware", "abacus"], "'abacus'"),
        (["--prefix-caching"], "prefix_caching: needs block hashes"),
        (["--preemption", "swap"], "preemption: needs the bandwidth"),
        (["--order", "random"], "--order"),
    ):
        assert words in refused(autokv(*options, *more))
    (tmp_path / "int8.json").write_text(json.dumps({"pipeline": {"quantization": INT8}}))
    assert "names no model; add --model" in refused(autokv(*options[2:]))


@pytest.mark.usefixtures("given_costs")
def test_a_request_larger_than_the_memory_is_named_unless_it_is_to_be_refused(
    autokv: Run, options: list[object]
) -> None:
    tight = [*options, "--kv-memory", "160kB"]
    line = refused(autokv(*tight))
    assert "trace, request " in line
    assert "never fit into the 160 kB of KV memory" in line
    code, out, err = autokv(*tight, "--refuse-oversized", "--json")
    assert code == 0, err
    assert json.loads(out)["runs"][0]["refused"] > 0


@pytest.mark.usefixtures("given_costs")
def test_with_memory_to_spare_it_says_that_nothing_is_bought(autokv: Run, options: list[object]) -> None:
    code, out, err = autokv(*options, "--rate", 0.5)
    assert code == 0, err
    assert "does not help this workload" in out
    assert "Simulated from times that were measured on" in " ".join(out.split())


@pytest.mark.usefixtures("given_costs")
def test_turns_of_a_conversation_wait_unless_the_loop_is_open(
    autokv: Run, options: list[object], tmp_path: Path
) -> None:
    # Turns of one conversation come every 10 ms; each takes longer.
    rows = [f"2024-01-01 00:00:00.{row:02}0,100,10,one" for row in range(20)]
    (tmp_path / "own.csv").write_text("\n".join(["at,asked,answered,chat", *rows, ""]))
    own = [*options[:2], "--workload", tmp_path / "own.csv", *options[4:], "--no-baseline"]
    for pair in ("arrival=at", "input_tokens=asked", "output_tokens=answered", "session=chat"):
        own += ["--column", pair]
    code, out, err = autokv(*own, "--json", "--max-rate")
    assert code == 0, err
    closed = json.loads(out)
    opened = json.loads(autokv(*own, "--open-loop", "--json")[1])
    assert (closed["closed_loop"], opened["closed_loop"]) == (True, False)
    runs = closed["runs"] + opened["runs"]
    assert [run["closed_loop"] for run in runs] == [True, False]
    assert (runs[0]["max_running"], runs[0]["late_share"]) == (1, 0.95)
    assert runs[1]["max_running"] > 1
    assert runs[0]["max_rate"]["requests_per_s"] == pytest.approx(20 / runs[0]["duration_s"], rel=0.1)
    assert closed["notes"][0].startswith("closed loop: each of 19 later turns comes when the turn before it has ended")
    assert any("95% of the requests come later than in the trace" in note for note in closed["notes"])
    assert opened["notes"][0] == "open loop: 19 later turns do not wait for the end of the turn before them"


@pytest.mark.usefixtures("given_costs")
def test_a_trace_with_columns_of_its_own_is_read(autokv: Run, options: list[object], tmp_path: Path) -> None:
    rows = [f"{200 * row},{100 + row},{10}" for row in range(40)]
    (tmp_path / "own.csv").write_text("\n".join(["at,asked,answered", *rows, ""]))
    own = [*options[:2], "--workload", tmp_path / "own.csv", *options[4:]]
    names = ["--column", "arrival=at", "--column", "input_tokens=asked", "--column", "output_tokens=answered"]
    code, out, err = autokv(*own, *names, "--time-unit", "ms", "--json")
    assert code == 0, err
    assert json.loads(out)["requests_per_s"] == pytest.approx(40 / 7.8)
    assert "own.csv" in refused(autokv(*own))


def test_what_depends_on_the_whole_prompt_shares_no_prefix(
    autokv: Run, options: list[object], given_costs: None, tmp_path: Path
) -> None:
    evicting = tmp_path / "evicting.json"
    evicting.write_text(json.dumps({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.5}}}))
    shared = trace(tmp_path, tokens=1200, gap=0.5, hash_ids=[1, 2, 3])
    common = [*options[:2], "--workload", shared, "--prefix-caching", "--kv-memory", "8MB", "--json"]
    for config, expected in ((options[-1], True), (evicting, False)):
        code, out, err = autokv(*common, "--config", config, "--max-num-batched-tokens", 64)
        assert code == 0, err
        found = json.loads(out)
        candidate, full = found["runs"][:2]
        assert (candidate["cached_share"] > 0.2) == expected
        assert full["cached_share"] > 0.2
        assert any("prefixes are not shared" in note for note in found["notes"]) != expected
