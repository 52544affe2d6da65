"""``autokv jobs``, ``configs`` and ``aliases`` on a running server, and on its database."""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import yaml
from typer import Context

from autokv.cli import complete
from autokv.cli.main import main
from autokv.client import Client
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.data import example_trace
from autokv.wire import JobSubmission

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedWorker, Server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def autokv(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv ARGS`` in an empty folder, on the server: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOKV_SERVER_URL", server.url)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["autokv", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def done(autokv: Run, worker: ScriptedWorker) -> str:
    """A job that is done."""
    _, out, _ = autokv("jobs", "submit", "--model", "tiny", "--trials", 3)
    worker.claim()
    worker.finish()
    return out.strip()


def test_every_option_becomes_the_field_of_autokv_tune(autokv: Run, client: Client, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"model": "tiny", "seed": 3, "trials": 5, "tasks": True}))
    code, out, err = autokv(
        "jobs", "submit", "job.yaml", "--trials", 7, "--workload", example_trace(), "--rate", 2,
        "--max", "kl_divergence=0.1",
        "--slo", "ttft_ms=500", "--kv-memory", "2GiB", "--objective", "kl_divergence", "--objective", "task_score",
        "--labels", "zone=a,tier=b",
    )  # fmt: skip
    assert code == 0, err
    job = client.jobs.get(out.strip())
    (trace,) = client.traces.list()
    assert job.submission == JobSubmission(
        model="tiny",
        seed=3,
        trials=7,
        tasks=True,
        workload=trace.id,
        rate=2.0,
        maximums={"kl_divergence": 0.1},
        slo={"ttft_ms": 500.0},
        kv_memory=2.0**31,
        objectives=("kl_divergence", "task_score"),
        labels={"zone": "a", "tier": "b"},
    )


def test_tasks_are_asked_for_refused_or_left_to_the_default(autokv: Run, client: Client) -> None:
    for options, tasks in ((["--tasks"], True), (["--no-tasks"], False), ([], None)):
        _, out, _ = autokv("jobs", "submit", "--model", "tiny", *options)
        assert client.jobs.get(out.strip()).request["tasks"] is tasks


def test_a_trace_is_uploaded_and_read_as_the_options_say(autokv: Run, client: Client, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("at,in,out\n0,10,20\n1500,30,40\nx,1,1\n")
    code, _, err = autokv("jobs", "submit", "--model", "tiny", "--workload", "log.csv")
    assert (code, "--column input_tokens=in" in err) == (2, True)
    options = ("--column", "arrival=at", "--column", "input_tokens=in", "--column", "output_tokens=out",
               "--time-unit", "ms", "--max-bad-rows", 0.5, "--tokenizer", "tiny")  # fmt: skip
    code, out, err = autokv("jobs", "submit", "--model", "tiny", "--workload", tmp_path / "log.csv", *options)
    assert code == 0, err
    job = client.jobs.get(out.strip())
    (trace,) = client.traces.list()
    assert (trace.facts["format"], trace.facts["requests"], trace.facts["duration_s"]) == ("mapped", 2, 1.5)
    assert job.submission == JobSubmission(
        model="tiny",
        workload=trace.id,
        columns={"arrival": "at", "input_tokens": "in", "output_tokens": "out"},
        time_unit="ms",
        max_bad_rows=0.5,
        tokenizer="tiny",
    )


@pytest.mark.parametrize(
    ("options", "run_on"),
    [(["--run-on", "l4"], "l4"), (["--run-on", "any"], "any"), (["--estimate"], "any"), ([], None)],
)
def test_the_device_to_run_on_is_chosen_and_the_earlier_option_is_still_taken(
    autokv: Run, client: Client, options: list[str], run_on: str | None
) -> None:
    code, out, err = autokv("jobs", "submit", "--model", "tiny", *options)
    assert code == 0, err
    submission = client.jobs.get(out.strip()).submission
    assert submission == JobSubmission.model_validate({"model": "tiny", "run_on": run_on})
    assert "--estimate" not in autokv("jobs", "submit", "--help")[1]


def test_a_file_of_the_earlier_field_still_submits(autokv: Run, client: Client, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("model: tiny\nestimate: true\n")
    submission = client.jobs.get(autokv("jobs", "submit", "job.yaml")[1].strip()).submission
    assert submission is not None
    assert submission.run_on == "any"
    (tmp_path / "both.yaml").write_text("model: tiny\nestimate: true\nrun_on: l4\n")
    assert autokv("jobs", "submit", "both.yaml")[0] == 2


def test_validating_submits_nothing(autokv: Run, client: Client) -> None:
    code, out, _ = autokv("jobs", "submit", "--model", "tiny", "--validate")
    assert code == 0
    assert "not known" in out
    code, out, _ = autokv("jobs", "submit", "--model", "tiny", "--validate", "--json")
    assert json.loads(out)["workers"]["ready"] == 0
    assert list(client.jobs.list()) == []


def test_a_job_is_watched_to_its_end(autokv: Run, worker: ScriptedWorker) -> None:
    code, out, _ = autokv("jobs", "submit", "--model", "tiny", "--trials", 3, "--key", "nightly")
    job = out.strip()
    assert autokv("jobs", "submit", "--model", "tiny", "--trials", 3, "--key", "nightly")[1].strip() == job

    def run() -> None:
        worker.claim()
        worker.database.queue.message(worker.lease, "loading tiny")
        told = {"phase": "searching", "trials_done": 1, "trials_total": 3, "front_size": 1, "hypervolume": 0.25}
        worker.database.queue.progress(worker.lease, told)
        worker.finish()

    running = threading.Thread(target=run)
    running.start()
    code, out, err = autokv("jobs", "watch", job)
    running.join()
    assert (code, err) == (0, "")
    assert "loading tiny\n" in out
    assert "trial 1 of 3 · front 1 · hypervolume 0.250" in out
    assert "★" in out
    assert "done: it is the only one\n" in out


def test_the_commands_that_come_next_run_as_they_are_printed(
    autokv: Run, server: Server, worker: ScriptedWorker, client: Client, tmp_path: Path
) -> None:
    job = autokv("jobs", "submit", "--model", "org/Tiny Model_1", "--trials", 3)[1].strip()
    worker.claim()
    worker.finish()
    code, out, _ = autokv("jobs", "watch", job, "--server", server.url)
    assert code == 0
    commands = [shlex.split(line.partition(": autokv ")[2]) for line in out.splitlines()[-3:]]
    recommended = client.jobs.get(job).recommended
    assert commands[0] == ["jobs", "download", job, "--server", server.url]
    assert commands[1] == ["configs", "download", recommended, "--server", server.url]
    assert commands[2] == ["aliases", "set", "tiny-model_1", recommended, "--server", server.url]
    for command in commands:
        code, _, err = autokv(*command)
        assert code == 0, err
    assert (tmp_path / "autokv-results" / "report.html").is_file()
    assert client.aliases.get("tiny-model_1").configuration == recommended


def test_the_models_of_the_server_are_named_where_a_path_of_this_machine_is_given(
    autokv: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = autokv("jobs", "submit", "--model", tmp_path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "model: is a path, but a model is one that the server or its workers have; name an id of the Hugging" in err
    monkeypatch.setattr("autokv.models.offered._last", {})
    monkeypatch.setenv("AUTOKV_MODEL_ROOTS", str(tmp_path / "models"))
    server.stop()
    server.start()
    for number in range(7):
        folder = tmp_path / "models" / f"m{number}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (folder / "model.safetensors").write_bytes(b"12345")
    code, _, err = autokv("jobs", "submit", "--model", tmp_path)
    assert code == 2
    assert "choose from m0, m1, m2, m3, m4 and " in err
    assert "more (GET /v1/models), or name an id of the Hugging Face Hub" in err
    assert len(err.splitlines()) == 1
    assert "did you mean m1?" in autokv("jobs", "submit", "--model", "M1 ")[2]


def test_a_job_that_is_not_done_is_exit_code_1(autokv: Run) -> None:
    job = autokv("jobs", "submit", "--model", "tiny")[1].strip()
    assert autokv("jobs", "cancel", job)[:2] == (0, "cancelled\n")
    code, out, _ = autokv("jobs", "watch", job)
    assert code == 1
    assert "cancelled: " in out
    assert autokv("jobs", "retry", job)[:2] == (0, "queued\n")
    assert autokv("jobs", "list", "--state", "cancelled")[1] == "no jobs yet\n"
    assert job in autokv("jobs", "list", "--state", "queued", "--limit", 1)[1]
    shown = autokv("jobs", "show", job)[1]
    assert "queued" in shown
    assert "WorkerAvailable" in shown
    assert [one["id"] for one in json.loads(autokv("jobs", "list", "--json")[1])] == [job]
    assert json.loads(autokv("jobs", "show", job, "--json")[1])["job"]["state"] == "queued"


def test_a_job_that_recommends_nothing_is_exit_code_3(autokv: Run, worker: ScriptedWorker) -> None:
    job = autokv("jobs", "submit", "--model", "tiny", "--trials", 3)[1].strip()
    worker.claim()
    worker.finish(recommends=False)
    assert autokv("jobs", "watch", job)[0] == 3


def test_who_stops_watching_is_told_how_to_go_on(autokv: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job = autokv("jobs", "submit", "--model", "tiny", "--server", server.url)[1].strip()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("autokv.client.Tuning.wait", stop)
        code, _, err = autokv("jobs", "watch", job, "--server", server.url)
    assert code == 130
    (told,) = re.findall(r"`autokv jobs ([^`]+)`", err)
    assert shlex.split(told) == ["watch", job, "--server", server.url]


def test_what_a_job_found_is_downloaded(autokv: Run, done: str, client: Client, tmp_path: Path) -> None:
    code, out, _ = autokv("jobs", "download", done)
    assert code == 0
    names = {Path(line.removeprefix("wrote ")).name for line in out.splitlines()}
    assert names == {"recommended.json", "report.html", "front.json"}
    (front,) = json.loads((tmp_path / "autokv-results" / "front.json").read_text())["points"]
    found = json.loads((tmp_path / "autokv-results" / "recommended.json").read_text())
    assert CompressionConfig.parse({"pipeline": found["pipeline"]}).digest == front["digest"]

    identifier = client.jobs.get(done).recommended
    assert autokv("configs", "download", front["digest"], "--output", "by.yaml")[0] == 0
    assert autokv("aliases", "set", "prod", identifier)[1] == f"prod is at revision 1: configuration {identifier}\n"
    assert autokv("aliases", "download", "prod")[1] == "wrote prod.json\n"
    assert ConfigurationDocument.load(tmp_path / "by.yaml").digest == front["digest"]
    assert yaml.safe_load((tmp_path / "by.yaml").read_text()) == json.loads((tmp_path / "prod.json").read_text())


def test_ids_of_the_server_are_completed(
    done: str, client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complete, "SERVER_SECONDS", 60)  # a busy machine takes its time
    context = cast("Context", SimpleNamespace(params={"server": server.url}))
    ((job, what),) = complete.job(context, done[:4])
    assert (job, what) == (done, "done, tiny")
    ((configuration, roles),) = complete.configuration(context, "")
    assert (configuration, "recommended" in roles) == (client.jobs.get(done).recommended, True)
    assert complete.job(context, "zz") == []


def test_an_alias_from_its_making_to_its_end(autokv: Run, done: str, client: Client, worker: ScriptedWorker) -> None:
    first = client.jobs.get(done).recommended
    assert autokv("aliases", "list")[1] == "no aliases yet\n"
    autokv("aliases", "set", "prod", first, "--note", "at first")
    job = autokv("jobs", "submit", "--model", "tiny", "--seed", 1)[1].strip()
    worker.claim()
    worker.finish()
    second = client.jobs.get(job).recommended
    assert second is not None
    digest = client.configurations.get(second).digest
    assert autokv("aliases", "set", "prod", digest[:12])[1] == f"prod is at revision 2: configuration {second}\n"
    assert "8 or more characters of a digest" in autokv("aliases", "set", "prod", digest[:4])[2]
    code, _, err = autokv("aliases", "set", "prod", first, "--revision", 1)
    assert code == 2
    assert err.startswith("error: ")
    assert autokv("aliases", "rollback", "prod")[1] == f"prod is at revision 3: configuration {first}\n"
    shown = autokv("aliases", "show", "prod")[1]
    assert [word in shown for word in ("at first", "rolled_back", "moved", "created")] == [True] * 4
    assert json.loads(autokv("aliases", "list", "--json")[1])[0]["revision"] == 3
    assert autokv("aliases", "delete", "prod")[0] == 0
    assert autokv("aliases", "show", "prod")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "submit"),
        ("jobs", "submit", "--model", "tiny", "--trials", "0"),
        ("jobs", "submit", "--model", "tiny", "--workload", "missing/trace.csv"),
        ("jobs", "submit", "--model", "tiny", "--labels", "zone"),
        ("jobs", "submit", "missing.yaml"),
        ("jobs", "show", "unheard-of"),
        ("jobs", "show", ".."),
        ("jobs", "watch", "unheard-of"),
        ("configs", "download"),
        ("aliases", "download"),
        ("jobs", "list", "--state", "asleep"),
        ("jobs", "list", "--server", "nonsense"),
        ("aliases", "set", "prod", "unheard-of"),
        ("aliases", "set", "Not A Name", "unheard-of"),
    ],
)
def test_what_makes_no_sense_is_one_line(autokv: Run, client: Client, arguments: tuple[str, ...]) -> None:
    code, _, err = autokv(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: ")
    assert list(client.jobs.list()) == []


def test_a_server_that_is_not_there_is_exit_code_1(
    autokv: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autokv.client.retries.FIRST_SECONDS", 0.001)
    server.stop()
    code, _, err = autokv("jobs", "list")
    assert (code, err.count("\n")) == (1, 1)
    assert server.url in err
