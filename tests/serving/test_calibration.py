"""Costs fitted to a server's log: those of a simulated server are found again; a real log is read and checked."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autokv.errors import RequestError
from autokv.serving import SequenceBytes, ServingOptions, simulate
from autokv.serving.calibration import Calibration, EngineCosts, calibrate, doubts
from autokv.serving.cost_model import ModelShape, Product
from autokv.serving.server_log import ServerLog, read_log
from autokv.workload import WorkloadTrace

SEQUENCE = SequenceBytes(1000.0)
OPTIONS = ServingOptions(max_num_batched_tokens=512, max_num_seqs=32)
CAPACITY = 1e9
REAL = Path(__file__).parents[3] / "shared/cases/traces/llmservingsim_vllm_RTXPRO6000_Llama-3.1-8B.jsonl"


def served(costs: EngineCosts, requests: int = 240, rate: float = 6.0) -> ServerLog:
    """The log that a simulated server would have written."""
    chance = np.random.default_rng(3)
    trace = WorkloadTrace(
        name="simulated",
        format="test",
        arrival_s=np.concatenate([[0.0], np.cumsum(chance.exponential(1 / rate, requests - 1))]),
        input_tokens=chance.integers(50, 1500, requests),
        output_tokens=chance.integers(20, 200, requests),
    )
    outcome = simulate(trace, costs.cost_model(SEQUENCE, ""), CAPACITY, OPTIONS)
    return ServerLog(trace, outcome.first_token_s, outcome.finish_s)


@pytest.mark.parametrize(
    "costs",
    [EngineCosts(0.012, 4e-5, 2e-5, 6e-8), EngineCosts(0.004, 1e-4, 3e-4, 2e-7)],
    ids=["like a GPU", "sequences count"],
)
def test_the_costs_of_a_simulated_server_are_found_again(costs: EngineCosts) -> None:
    found = calibrate(served(costs), OPTIONS, CAPACITY, SEQUENCE)
    assert found.costs.iteration == pytest.approx(costs.iteration, rel=0.05)
    assert found.costs.token == pytest.approx(costs.token, rel=0.05)
    # A sequence and what it holds grow together: what a step over 16 sequences costs is what the log tells.
    step, true = (one.cost_model(SEQUENCE, "").decode(16, 800) for one in (found.costs, costs))
    assert step == pytest.approx(true, rel=0.03)
    assert abs(found.errors["ttft"]) < 0.03
    assert abs(found.errors["tpot"]) < 0.03
    assert (found.fitted, found.held_out) == (160, 80)
    assert "on the 80 that arrived last" in found.words


def test_requests_that_are_held_out_do_not_move_the_fit() -> None:
    log = served(EngineCosts(0.012, 4e-5, 2e-5, 6e-8))
    slower = log.finish_s.copy()
    slower[160:] += (slower - log.first_token_s)[160:]
    found = calibrate(replace(log, finish_s=slower), OPTIONS, CAPACITY, SEQUENCE)
    assert found.errors["tpot"] < -0.3


def test_where_a_server_stands_at_its_limit_the_log_says_so() -> None:
    assert served(EngineCosts(0.012, 4e-5, 2e-5, 6e-8), rate=60.0).in_flight_limit == OPTIONS.max_num_seqs
    assert served(EngineCosts(0.001, 1e-6, 1e-6, 1e-9), rate=2.0).in_flight_limit is None


def rows(count: int = 30, **more: object) -> list[dict[str, Any]]:
    return [
        {
            "input_toks": 100 + row,
            "output_toks": 11,
            "queued_ts": 1000.0 + row,
            "first_token_ts": 1000.5 + row,
            "last_token_ts": 1001.5 + row,
            **more,
        }
        for row in range(count)
    ]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_lines_tables_and_bench_results_say_the_same(tmp_path: Path) -> None:
    lines = read_log(write(tmp_path / "log.jsonl", rows()))
    with (tmp_path / "log.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows()[0]))
        table.writeheader()
        table.writerows(rows())
    bench = {
        "input_lens": [100 + row for row in range(30)],
        "output_lens": [11] * 30,
        "start_times": [1000.0 + row for row in range(30)],
        "ttfts": [0.5] * 30,
        "itls": [[0.1] * 10] * 30,
        "duration": 40.0,
    }
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    for other in (read_log(tmp_path / "log.csv"), read_log(tmp_path / "bench.json")):
        np.testing.assert_allclose(other.ttft_s, lines.ttft_s)
        np.testing.assert_allclose(other.tpot_s, lines.tpot_s)
        np.testing.assert_array_equal(other.trace.input_tokens, lines.trace.input_tokens)
    assert lines.ttft_s == pytest.approx(np.full(30, 0.5))
    assert lines.tpot_s == pytest.approx(np.full(30, 0.1))
    assert lines.trace.arrival_s[0] == 0.0


def test_incomplete_requests_are_left_out_and_said(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "log.jsonl", [*rows(25), *rows(3, last_token_ts=None)]))
    assert len(log.trace) == 25
    assert log.trace.notes == ("3 requests without a time or a token are left out",)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{k: v for k, v in row.items() if k != "first_token_ts"} for row in rows()], "no time of the first token"),
        ([{k: v for k, v in row.items() if k != "last_token_ts"} for row in rows()], "no time of the last token"),
        ([{k: v for k, v in row.items() if k != "output_toks"} for row in rows()], "no number of output tokens"),
        (rows(arrival_time=0.0, queued_ts=None, start_time=5.0)[:5], "has 5 requests, too few"),
        (rows(queued_ts=1.7e9), "request 1 has its first token"),
    ],
    ids=["no first", "no last", "no output", "few", "another clock"],
)
def test_a_log_that_does_not_say_it_is_refused(tmp_path: Path, lines: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        read_log(write(tmp_path / "log.jsonl", lines))
    assert caught.value.field == str(tmp_path / "log.jsonl")


def test_no_text_and_no_json_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b").write_text('{"a": 1}\n{"a"\n')
    for name, words in (("a", "no text"), ("b", "no JSON"), ("c", "cannot be read")):
        with pytest.raises(RequestError, match=words):
            read_log(tmp_path / name)


@pytest.mark.skipif(not REAL.is_file(), reason="the public log is not here")
def test_a_real_engine_is_met_within_a_tenth_on_what_was_held_out() -> None:
    """vLLM 0.19 on an RTX PRO 6000 with Llama 3.1 8B: 128 requests and 2,048 tokens at once, 574,608 tokens held."""
    log = read_log(REAL)
    assert log.in_flight_limit == 128
    options = ServingOptions(max_num_batched_tokens=2048, max_num_seqs=128)
    found = calibrate(log, options, 574_608 * 131_072, SequenceBytes(131_072.0))
    assert abs(found.errors["ttft"]) < 0.1
    assert abs(found.errors["tpot"]) < 0.1


SHAPE = ModelShape(8 * 10**9, 16 * 10**9, 32, 32, 8, 128, "bfloat16", (Product(4096, 4096),))
"""Its weights take 8 ms at 2 TB/s."""


def said(iteration: float, models: tuple[str, ...] = (), shape: ModelShape = SHAPE) -> list[str]:
    """What is said of a fit; the log names ``models``."""
    trace = WorkloadTrace("log", "test", np.zeros(1), np.ones(1, np.int64), np.ones(1, np.int64))
    found = Calibration(EngineCosts(iteration, 1e-6, 1e-6, 1e-9), "log.jsonl", 20, 10, {})
    log = ServerLog(trace, np.ones(1), np.ones(1), models)
    return list(doubts(found, log, shape, model="folder/Llama-3.1-8B", device="a GPU", bandwidth=2e12))


def test_a_fit_holds_for_its_server_only_and_says_so() -> None:
    (holds,) = said(0.010, ("meta-llama/llama-3.1-8b",))
    assert holds.startswith("the costs are taken to be those of folder/Llama-3.1-8B on a GPU; they hold only")


def test_a_log_of_another_model_is_told_by_its_name() -> None:
    _, warning = said(0.010, ("meta-llama/Llama-3.1-8B", "gpt2"))
    assert warning == "warning: log.jsonl names the model gpt2, not folder/Llama-3.1-8B"


def test_a_step_that_is_faster_than_the_weights_can_be_read_is_told() -> None:
    _, warning = said(0.003)
    assert "fitted to take 3 ms, but a GPU needs 8 ms to read the weights" in warning
    # A mixture of experts reads only a part of them.
    assert len(said(0.003, shape=replace(SHAPE, products=()))) == 1


def test_the_models_of_a_log_are_read_from_its_rows_and_from_the_file_of_a_benchmark(tmp_path: Path) -> None:
    rows = [{"arrival": n, "ttft": 0.1, "e2e": 1.0, "input_len": 9, "output_len": 9, "model": "a/b"} for n in range(20)]
    path = tmp_path / "log"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert read_log(path).models == ("a/b",)
    lists = {"input_lens": [9] * 20, "output_lens": [9] * 20, "ttfts": [0.1] * 20, "itls": [[0.1] * 8] * 20}
    path.write_text(json.dumps({"model_id": "c/d", **lists}))
    assert read_log(path).models == ("c/d",)
