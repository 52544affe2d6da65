"""``autokv tune`` and ``autokv evaluate`` as a user calls them, on tiny models."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import NotFoundError
from autokv.evaluation.tasks import TASKS
from autokv.report import write_results
from autokv.storage import Database

AUTOKV = [str(Path(sys.executable).parent / "autokv")]
SMALL = ["--samples", "2", "--validation-samples", "2", "--context-tokens", "192", "--continuation-tokens", "16"]
SMALL += ["--no-tasks"]
Run = Callable[..., tuple[int, str, str]]


def test_tune_writes_files_that_agree_with_the_database(autokv: Run, model: Path, tmp_path: Path) -> None:
    code, out, err = autokv("tune", "--model", model, *SMALL[:-1], "--trials", 8, "--max", "kl_divergence=50")
    assert code == 0, err
    results = tmp_path / "autokv-results"
    assert sorted(path.name for path in results.iterdir()) == [
        "front.svg",
        "pareto.json",
        "recommended.json",
        "report.html",
        "request.yaml",
        "trials.csv",
    ]
    table = out[out.index("configuration") :].partition("(chosen for")[0].splitlines()[:-1]
    assert max(map(len, table)) <= 80
    recommended = ConfigurationDocument.load(results / "recommended.json")
    front = json.loads((results / "pareto.json").read_text())
    assert recommended.digest in {point["digest"] for point in front}
    assert recommended.provenance is not None
    assert recommended.validated is not None
    feasible = [point for point in front if point["feasible"]]
    assert recommended.digest in {point["digest"] for point in feasible}
    smallest = min(feasible, key=lambda point: point["validation"]["metrics"]["kv_bytes_per_token"]["mean"])
    assert "smallest" in smallest["roles"]
    for point in front:
        assert point["digest"] == CompressionConfig.parse(point["config"]).digest
        assert set(point["metrics"]["kl_divergence"]) == {"mean", "std", "p95", "worst", "n"}
        assert len(point["samples"]) == 2

    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
        trials = database.trials.of(job.id)
        stored = database.results.of(job.id)
    assert job.state == "done"
    assert stored is not None
    assert stored.recommended == recommended.digest
    # A model of random weights solves no task, which is said wherever its results are.
    assert job.workload is not None
    assert job.workload["tasks"]["left_out"] == list(TASKS)
    assert job.workload["tasks"]["note"] in (results / "report.html").read_text()
    assert job.workload["tasks"] == (recommended.workload or {})["tasks"]
    assert job.workload["contexts"]["validation"] == [192, 192]
    with (results / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [trial.number for trial in trials]
    assert sum(trial.state != "infeasible" for trial in trials) == 8

    # The files can be had again, and so can each configuration.
    before = (results / "pareto.json").read_bytes()
    code, _, err = autokv("tune", "--resume", job.id, "--output", "again")
    assert code == 0, err
    assert (tmp_path / "again" / "pareto.json").read_bytes() == before
    code, _, err = autokv("configs", "download", recommended.digest[:12], "--output", "mine.json")
    assert code == 0, err
    assert ConfigurationDocument.load(tmp_path / "mine.json") == recommended


def test_tune_recommends_nothing_where_nothing_is_good_enough(autokv: Run, model: Path, tmp_path: Path) -> None:
    code, out, err = autokv(
        "tune", "--model", model, *SMALL, "--trials", 4, "--max", "kl_divergence=1e-12", "--space", "quantization-only"
    )
    assert code == 3, err
    assert not (tmp_path / "autokv-results" / "recommended.json").exists()
    assert re.search(r"no(ne|thing|\s+configuration)", out)


def test_a_request_file_and_options_are_the_same_thing(autokv: Run, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Line {number} of a text that never repeats itself.\n" for number in range(60)))
    trace = tmp_path / "trace.csv"
    rows = "".join(f"2023-11-16 18:17:{second:02}.1234567,{200 + 2 * second},50\n" for second in range(40))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    request = tmp_path / "tune.yaml"
    request.write_text(
        f"model: {model}\nworkload: trace.csv\ntext: text.txt\ntrials: 4\nsamples: 2\nvalidation_samples: 2\n"
        "continuation_tokens: 8\nmax: {kl_divergence: 50}\nobjectives: [kl_divergence, attention_us]\n"
    )
    code, out, err = autokv("tune", request, "--space", "edge", "--seed", 3)
    assert code == 0, err
    assert "contexts of 208 to 256 tokens" in err
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    assert job.request.space == "edge"
    assert job.request.seed == 3
    assert job.request.text == str(text)
    assert job.workload is not None
    assert job.workload["contexts"]["calibration"] == [208, 256]
    # 40 requests in 39 s, each of 50 tokens at 20 a second: 2.56 at once.
    assert job.workload["contexts"]["batch"] == 3
    assert "timed over 3 sequences at once" in err
    assert "timed over" not in out
    with Database("sqlite:///autokv.db", create=False) as database:
        measured = [trial.measurement for trial in database.trials.of(job.id) if trial.measurement is not None]
    batches = {sample.get("batch") for measurement in measured for sample in measurement.samples}
    assert batches == {3}


def test_prompts_of_a_file_keep_their_lengths_up_to_the_longest_allowed(
    autokv: Run, model: Path, tmp_path: Path
) -> None:
    lengths = (90, 120, 150, 180)
    lines = [json.dumps({"prompt": chr(97 + number) * length}) for number, length in enumerate(lengths)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    options = ["--prompts", "prompts.jsonl", "--samples", 2, "--validation-samples", 2, "--continuation-tokens", 8]
    options += ["--trials", 2, "--max", "kl_divergence=50", "--space", "edge"]
    code, _, err = autokv("tune", "--model", model, *options)
    assert code == 0, err
    assert "prompts of their own lengths" in err
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    assert job.workload is not None
    assert job.workload["contexts"]["calibration"] == [90, 120]
    assert job.workload["contexts"]["validation"] == [150, 180]
    assert "prompts.jsonl" in refused(autokv("tune", "--model", model, *options, "--max-context-tokens", 100))


def test_evaluate_prints_an_object_per_configuration(autokv: Run, model: Path, tmp_path: Path) -> None:
    paths = []
    for name, pipeline in (
        ("identity", {}),
        ("knorm", {"eviction": {"method": "knorm", "keep_ratio": 0.5, "recent_tokens": 8}}),
    ):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"pipeline": pipeline}))
        paths += ["--config", str(path)]
    text = tmp_path / "text.txt"
    text.write_text("All happy families are alike. " * 40)
    options = ["--text", text, "--context-tokens", 128, "--continuation-tokens", 16, "--samples", 3]
    more = ["--batch", 2, "--dtype", "float32", "--json"]
    code, out, err = autokv("evaluate", "--model", model, *paths, *options, *more)
    assert code == 0, err
    identity, knorm = json.loads(out)
    assert identity["metrics"]["kl_divergence"]["worst"] < 1e-6
    assert knorm["metrics"]["kl_divergence"]["mean"] > 1e-4
    assert [sample["context_tokens"] for sample in knorm["samples"]] == [128, 128, 128]
    assert [sample["batch"] for sample in knorm["samples"]] == [2, 2, 2]
    assert knorm["metrics"]["compression_ratio"]["mean"] == pytest.approx(2.0, rel=0.05)
    code, out, err = autokv("evaluate", "--model", model, *paths, *options)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80


def test_evaluate_judges_answers_to_tasks(autokv: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"pipeline": {}}')
    options = ["--context-tokens", 900, "--continuation-tokens", 4, "--samples", 5]
    code, out, err = autokv("evaluate", "--model", model, "--config", path, "--tasks", *options, "--json")
    assert code == 0, err
    (judged,) = json.loads(out)
    assert judged["metrics"]["output_length_ratio"]["mean"] == 1.0
    assert judged["metrics"]["task_score"]["n"] == 5
    assert len({sample["kind"] for sample in judged["samples"]}) == 5


def refused(result: tuple[int, str, str]) -> str:
    """The error, in the last of the lines on standard error; those before it tell of progress."""
    code, out, err = result
    *before, line = (line for line in err.splitlines() if line.strip())
    assert code == 2, err
    assert out == ""
    assert line.startswith("error: ")
    assert not any(one.startswith("error: ") for one in before)
    return line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--trials", "0"], "trials"),
        (["--trials", "-5"], "trials"),
        (["--trials", "many"], "--trials"),
        (["--objective", "beauty"], "beauty"),
        (["--max", "kl_divergence"], "NAME=VALUE"),
        (["--max", "attention_fp8_us=100"], "attention_fp8_us"),
        (["--objective", "attention_fp8_us"], "fp8"),
        (["--sampler", "oracle"], "sampler"),
        (["--space", "nowhere"], "nowhere"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--text", "a", "--tasks"], "text and tasks"),
        (["--text", "empty.txt"], "empty.txt"),
        (["--text", "binary.txt"], "binary.txt"),
        (["--text", "short.txt"], "short.txt"),
        (["--prompts", "broken.jsonl"], "broken.jsonl"),
        (["--workload", "empty.txt"], "empty.txt"),
        (["--workload", "binary.txt"], "binary.txt"),
        (["--workload", "truncated.csv"], "truncated.csv"),
        (["--context-tokens", "5000"], "context_tokens"),
        (["--device", "abacus"], "abacus"),
        (["--database", "sqlite:////proc/none/autokv.db"], "autokv.db"),
        (["--resume", "0123"], "--model"),
    ],
)
def test_bad_input_is_one_line_and_stores_no_job(
    autokv: Run, model: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a"\n')
    (tmp_path / "truncated.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97")
    assert says in refused(autokv("tune", "--model", model, *options))
    assert not (tmp_path / "autokv-results").exists()
    if (tmp_path / "autokv.db").exists():
        with Database("sqlite:///autokv.db", create=False) as database:
            assert database.jobs.list() == ()


@pytest.mark.parametrize("name", ["nobody/nothing-at-all", "no/such/folder", "pickle", "remote"])
def test_models_that_cannot_be_used_are_one_line(autokv: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle" / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoConfig": "a.B"}}')
    assert name.split("/")[0] in refused(autokv("tune", "--model", name))


def test_a_database_from_a_newer_version_is_refused(autokv: Run, model: Path) -> None:
    import sqlite3

    with Database("sqlite:///autokv.db"):
        pass
    with sqlite3.connect("autokv.db") as connection:
        connection.execute("UPDATE autokv_version SET version_num = '9999'")
    connection.close()
    assert "newer" in refused(autokv("tune", "--model", model, *SMALL))


def test_a_full_disk_leaves_no_half_results_and_a_way_on(
    autokv: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def full(*arguments: object, **options: object) -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, limits[1]))  # smaller than any of the files
        try:
            return write_results(*arguments, **options)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr("autokv.runs.result_files.write_results", full)
    try:
        line = refused(autokv("tune", "--model", model, *SMALL, "--trials", 4))
    finally:
        signal.signal(signal.SIGXFSZ, ignored)
        monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "autokv-results" in line
    assert list((tmp_path / "autokv-results").iterdir()) == []
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    code, _, err = autokv("tune", "--resume", job.id)
    assert code == 0, err
    assert (tmp_path / "autokv-results" / "report.html").exists()


def trial_count(folder: Path) -> int:
    """Trials stored so far; none while the database is being made."""
    if not (folder / "autokv.db").exists():
        return 0
    try:
        with Database(f"sqlite:///{folder}/autokv.db", create=False) as database:
            return sum(job.trials for job in database.jobs.list())
    except NotFoundError:
        return 0


def started(folder: Path, model: Path, trials: int) -> subprocess.Popen[str]:
    command = [*AUTOKV, "tune", "--model", str(model), *SMALL, "--trials", str(trials), "--batch-size", "2"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_trials(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 600
    while trial_count(folder) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()


def test_a_killed_run_goes_on_and_loses_nothing(autokv: Run, model: Path, tmp_path: Path) -> None:
    process = started(tmp_path, model, 200)
    wait_for_trials(process, tmp_path, 4)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
        before = database.trials.of(job.id)
        # Nobody wants to wait for the other 196 of them.
        from sqlalchemy import text

        with database.writing() as session:
            wanted = sum(trial.state != "infeasible" for trial in before) + 3
            changed = {**job.request.model_dump(mode="json"), "trials": wanted}
            session.execute(text("UPDATE jobs SET request = :request"), {"request": json.dumps(changed)})
    assert job.state == "interrupted"
    code, _, err = autokv("tune", "--resume", job.id[:6])
    assert code == 0, err
    assert f"{wanted - 3} trials are stored" in err
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
        after = database.trials.of(job.id)
    assert job.state == "done"
    assert after[: len(before)] == before
    assert [trial.number for trial in after] == list(range(len(after)))
    assert sum(trial.state != "infeasible" for trial in after) == wanted


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(model: Path, tmp_path: Path) -> None:
    process = started(tmp_path, model, 200)
    wait_for_trials(process, tmp_path, 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130
    with Database(f"sqlite:///{tmp_path}/autokv.db", create=False) as database:
        (job,) = database.jobs.list()
    assert job.state == "interrupted"
    assert f"autokv tune --resume {job.id}" in err
    assert f"{job.trials} trials are stored" in err
    assert "Traceback" not in err


def test_a_run_that_is_cancelled_stops_and_keeps_what_it_finished(
    autokv: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOKV_HEARTBEAT_SECONDS", "0.05")

    def cancel() -> bool:
        deadline = time.monotonic() + 600
        while trial_count(tmp_path) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        with Database(f"sqlite:///{tmp_path}/autokv.db", create=False) as database:
            (job,) = database.jobs.list()
            return database.queue.cancel(job.id, "not needed any more")

    with ThreadPoolExecutor(1) as aside:
        cancelled = aside.submit(cancel)
        code, _, err = autokv("tune", "--model", model, *SMALL, "--trials", 200, "--batch-size", 2)
        assert cancelled.result()
    with Database("sqlite:///autokv.db", create=False) as database:
        (job,) = database.jobs.list()
        found = database.queue.look(job.id)
    assert code == 2
    assert err.splitlines()[-1] == f"error: job {job.id}: was cancelled; follow it with `autokv jobs show {job.id}`"
    assert (found.job.state, found.job.reason) == ("cancelled", "not needed any more")
    assert found.job.trials >= 2
    assert [attempt.outcome for attempt in found.attempts] == ["cancelled"]
