"""``autokv jobs``, over a real database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from autokv.cli.jobs import app
from autokv.config import CompressionConfig
from autokv.errors import StorageError
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

MODEL = "an-organization-with-a-long-name/a-model-whose-name-[bold]nobody[/bold]-can-remember-128B-Instruct-v0.3"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'autokv.db'}"


@pytest.fixture
def jobs(url: str) -> list[str]:
    """One job that is done, one that waits."""
    config = CompressionConfig()
    sample = {
        "id": "text-0",
        "kind": "text",
        "context_tokens": 64,
        "kl_divergence": 0.0123456,
        "kv_bytes_per_token": 23040.0,
        "attention_us": 123.4,
        "attention_baseline_us": 1234.5,
        "nll_delta": float("nan"),
    }
    measurement = Measurement.of_samples(config, [sample])
    record = TrialRecord(0, "complete", {}, "literature: none", config, measurement, None, 0.1)
    point = FrontPoint(0, record.source, measurement, None, feasible=True)
    objectives = ("kl_divergence", "kv_bytes_per_token", "attention_us", "attention_baseline_us")
    with Database(url) as database:
        request = TuningRequest(model=MODEL, trials=1, objectives=objectives)
        done, waiting = (
            database.queue.submit(request)[0].id,
            database.queue.submit(TuningRequest(model="other", seed=9))[0].id,
        )
        database.trials.add(done, record)
        database.results.save(
            done, TuningResult(objectives, [record], [point], config.digest, {"knee": config.digest}, "the only one")
        )
    return [done, waiting]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}, catch_exceptions=False)


def test_list(url: str, jobs: list[str]) -> None:
    lines = run("list", "--database", url).stdout.splitlines()
    (done,) = (line for line in lines if jobs[0] in line)
    (waiting,) = (line for line in lines if jobs[1] in line)
    assert "done" in done
    assert "1/1" in done
    assert "queued" in waiting
    assert "0/60" in waiting
    assert MODEL.rpartition("/")[2] in done, "what is piped is not cut"


def test_a_model_in_a_folder_is_listed_by_its_name(url: str) -> None:
    folder = "/home/somebody/a-folder-with-a-long-name/and-another-one/SmolLM2-360M-Instruct"
    with Database(url) as database:
        database.queue.submit(TuningRequest(model=folder, trials=1))
    out = run("list", "--database", url).stdout
    assert " SmolLM2-360M-Instruct " in out
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads(run("list", "--database", url, "--json").stdout)[0]["request"]["model"] == folder


def test_list_as_json(url: str, jobs: list[str]) -> None:
    listed = json.loads(run("list", "--database", url, "--json").stdout)
    assert {job["id"]: (job["state"], job["trials"], job["request"]["model"]) for job in listed} == {
        jobs[0]: ("done", 1, MODEL),
        jobs[1]: ("queued", 0, "other"),
    }


def test_show(url: str, jobs: list[str]) -> None:
    shown = run("show", jobs[0][:8], "--database", url).stdout
    digest = CompressionConfig().digest
    assert f"recommended  {digest[:12]}" in shown
    for told in (jobs[0], "the only one", "0.0123", "23,040", digest, f"autokv configs list --job {jobs[0]}"):
        assert told in shown
    assert "".join(MODEL.split()) in "".join(shown.split())
    assert max(len(line) for line in shown.splitlines() if "autokv " not in line) <= 80


def test_show_a_job_that_stopped(url: str, jobs: list[str]) -> None:
    with Database(url) as database:
        database.results.save(jobs[1], TuningResult((), [], [], None, reason="Ctrl-C", stopped_by="interrupt"))
    shown = run("show", jobs[1], "--database", url).stdout
    assert "Ctrl-C" in shown
    assert f"autokv tune --resume {jobs[1]}" in shown


def test_show_as_json_is_strict_json(url: str, jobs: list[str]) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    shown = json.loads(run("show", jobs[0], "--database", url, "--json").stdout, parse_constant=refuse)
    assert shown["job"]["id"] == jobs[0]
    (point,) = shown["result"]["front"]
    assert point["calibration"]["digest"] == CompressionConfig().digest
    assert point["calibration"]["metrics"]["kl_divergence"]["mean"] == 0.0123456
    assert point["calibration"]["samples"][0]["nll_delta"] is None
    assert json.loads(run("show", jobs[1], "--database", url, "--json").stdout)["result"] is None


def test_the_setting_names_the_database(url: str, jobs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOKV_DATABASE_URL", url)
    assert jobs[1] in run("list").stdout


def test_no_jobs_and_no_database(url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such database"):
        run("list", "--database", url)
    assert list(tmp_path.iterdir()) == []
    Database(url).close()
    assert run("list", "--database", url).stdout == "no jobs yet\n"
    with pytest.raises(StorageError, match="there is no job 'beef'"):
        run("show", "beef", "--database", url)
