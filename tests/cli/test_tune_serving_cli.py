"""``autokv tune`` with a workload: the scenario decides, the trace is served, and the answer says what it buys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.evaluation.metrics import SERVING_METRICS
from autokv.runs.judged import Judged
from autokv.storage import Database

SMALL = ["--samples", "2", "--validation-samples", "2", "--continuation-tokens", "8", "--trials", "4"]
SMALL += ["--max", "kl_divergence=50", "--no-tasks"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """40 requests in 39 seconds."""
    path = tmp_path / "trace.csv"
    rows = "".join(f"2023-11-16 18:17:{second:02}.1234567,{200 + 2 * second},50\n" for second in range(40))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    return path


def test_a_workload_decides_space_and_objectives_and_is_served(
    autokv: Run, model: Path, trace: Path, tmp_path: Path
) -> None:
    # Memory for two requests of 16 bits: it is short, whatever the machine.
    options = ["--kv-memory", "120kB", "--slo", "ttft_ms=5000,tpot_ms=500", "--scenario", "data-center"]
    code, _, err = autokv("tune", "--model", model, "--workload", trace, *SMALL, *options)
    assert code == 0, err
    assert "data-center was asked for" in " ".join(err.split())
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
        trials = database.trials.of(job.id)
        result = database.results.of(job.id)
    assert job.request.space == "throughput"
    assert job.request.objectives == ("kl_divergence", "goodput_requests_per_s", "concurrent_requests")
    assert job.workload is not None
    assert job.workload["scenario"]["name"] == "data-center"
    serving = job.workload["serving"]
    assert serving["slo"] == {"ttft_ms": 5000, "tpot_ms": 500}
    assert serving["kv_memory_bytes"] == 120_000
    assert serving["requests"] == 40
    assert not Judged.of(ConfigurationDocument(workload=job.workload)).slo_is_default
    measured = [trial.measurement for trial in trials if trial.measurement is not None]
    assert measured
    assert all(set(SERVING_METRICS) <= set(one.metrics) for one in measured)
    for one in measured:
        # Fewer bytes per token make more requests fit, but for windows and whole blocks.
        assert one.value("concurrent_requests") > 0
        assert one.config.pipeline.is_identity or one.metrics["ttft_ms"].n == 40
    assert result is not None
    assert result.recommended is not None
    document = ConfigurationDocument.load(tmp_path / "autokv-results" / "recommended.json")
    assert document.serving is not None
    assert [run["name"] for run in document.serving["runs"]][1:] == ["16-bit", "fp8"]
    assert document.serving["gains"]["16-bit"]["concurrent_requests"] > 0
    assert document.serving["verdict"] in result.reason
    assert result.decision is not None
    assert result.decision.objective == "sustained_requests_per_s"
    assert result.decision.advice
    assert document.provenance is not None
    assert document.provenance["decision"]["objective"] == "sustained_requests_per_s"
    confirmed = [point.validation for point in result.front if point.validation is not None]
    rates = {one.config.digest: one.value("sustained_requests_per_s") for one in confirmed}
    assert rates[CompressionConfig().digest] == result.decision.baseline["sustained_requests_per_s"]
    assert document.provenance is not None
    assert set(document.provenance["predicted"]) == {*SERVING_METRICS, "sustained_requests_per_s"}
    page = (tmp_path / "autokv-results" / "report.html").read_text()
    assert "Effect on your traffic" in page
    code, _, err = autokv("tune", "--resume", job.id, "--output", "again")
    assert code == 0, err
    assert ConfigurationDocument.load(tmp_path / "again" / "recommended.json") == document


def test_another_device_is_an_estimate_and_says_so(autokv: Run, model: Path, trace: Path, tmp_path: Path) -> None:
    options = ["--hardware", "h100-sxm", "--space", "edge", "--objective", "kl_divergence", "--objective", "tpot_ms"]
    code, _, err = autokv("tune", "--model", model, "--workload", trace, *SMALL, *options)
    assert code == 0, err
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    assert job.request.space == "edge"
    assert job.request.objectives == ("kl_divergence", "tpot_ms")
    assert job.workload is not None
    assert "H100" in job.workload["serving"]["device"]
    assert "Predicted for" in job.workload["serving"]["predicted"]
    points = json.loads((tmp_path / "autokv-results" / "pareto.json").read_text())
    assert all("tpot_ms" in point["metrics"] for point in points)
    assert Judged.of(ConfigurationDocument(workload=job.workload)).slo_is_default


def test_a_trace_without_arrivals_is_not_served(autokv: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "lengths.csv").write_text(
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n" + "200,20,220,10.0\n" * 30
    )
    command = ["tune", "--model", model, "--workload", "lengths.csv", *SMALL]
    code, _, err = autokv(*command, "--objective", "kl_divergence", "--objective", "ttft_ms")
    assert code == 2
    assert "has no arrivals" in err
    assert [line.startswith("error: ") for line in err.strip().splitlines()].count(True) == 1
    assert err.strip().splitlines()[-1].startswith("error: ")
    code, _, err = autokv(*command)
    assert code == 0, err
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    assert not SERVING_METRICS.intersection(job.request.objectives)


def test_a_workload_is_read_as_the_job_says(autokv: Run, model: Path, tmp_path: Path) -> None:
    rows = "".join(f"{500 * number};{200 + number};20\n" for number in range(30))
    (tmp_path / "log.csv").write_text(f"at;prompt size;answer size\n{rows}broken;1;1\n")
    command = ["tune", "--model", model, "--workload", "log.csv", *SMALL, "--objective", "kl_divergence"]
    code, _, err = autokv(*command)
    assert (code, "input_tokens=prompt size" in " ".join(err.split())) == (2, True)
    columns = {"arrival": "at", "input_tokens": "prompt size", "output_tokens": "answer size"}
    options = [part for field, name in columns.items() for part in ("--column", f"{field}={name}")]
    options += ["--time-unit", "ms", "--max-bad-rows", "0.5"]
    code, _, err = autokv(*command, *options)
    assert code == 0, err
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    assert job.request.columns == columns
    assert (job.request.time_unit, job.request.max_bad_rows) == ("ms", 0.5)
    assert job.workload is not None
    assert (job.workload["requests"], job.workload["duration_s"]) == (30, 14.5)


def test_no_memory_for_a_cache_is_one_line(autokv: Run, model: Path, trace: Path) -> None:
    code, _, err = autokv("tune", "--model", model, "--workload", trace, *SMALL, "--kv-memory", "10")
    assert code == 2
    assert "less than a block" in err
    assert [line.startswith("error: ") for line in err.strip().splitlines()].count(True) == 1
    assert err.strip().splitlines()[-1].startswith("error: ")
