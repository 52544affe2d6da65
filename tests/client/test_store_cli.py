"""The same commands on a database and on a server over it say the same; and the earlier spellings still work."""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from autokv import settings
from autokv.cli.main import main
from autokv.client import Client
from autokv.config import ConfigurationDocument
from autokv.jobs.selector import Selector
from autokv.storage import Database
from autokv.tuning.request import TuningRequest

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedWorker, Server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def autokv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv ARGS`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    for name in ("AUTOKV_SERVER_URL", "AUTOKV_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["autokv", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def done(client: Client, worker: ScriptedWorker) -> str:
    """A job that is done."""
    job = client.jobs.submit({"model": "org/tiny", "trials": 3})
    worker.claim()
    worker.finish()
    return job.id


@pytest.fixture(params=["--server", "--database"])
def place(request: pytest.FixtureRequest, server: Server, database_url: str) -> list[str]:
    return [request.param, server.url if request.param == "--server" else database_url]


def test_both_sides_say_the_same(autokv: Run, done: str, client: Client, server: Server, database_url: str) -> None:
    waiting = client.jobs.submit({"model": "org/other", "trials": 5}).id
    recommended = client.jobs.get(done).recommended
    assert recommended
    assert autokv("aliases", "set", "prod", recommended, "--database", database_url, "--note", "at first")[0] == 0
    for command in (
        ("jobs", "list"),
        ("jobs", "list", "--json"),
        ("jobs", "list", "--state", "done", "--state", "failed"),
        ("jobs", "list", "--model", "org/other", "--limit", 1),
        ("jobs", "show", waiting),
        ("jobs", "show", waiting, "--json"),
        ("configs", "list"),
        ("configs", "list", "--json", "--job", done),
        ("configs", "show", recommended),
        ("configs", "show", client.configurations.get(recommended).digest[:10], "--job", done),
        ("aliases", "list", "--json"),
        ("aliases", "show", "prod"),
    ):
        told = [autokv(*command, *place) for place in (["--server", server.url], ["--database", database_url])]
        assert told[0] == told[1]
        assert told[0][0] == 0
        assert told[0][1]
    shown = [
        autokv("jobs", "show", done, *place)[1] for place in (["--server", server.url], ["--database", database_url])
    ]
    assert shown[0].replace(f" --server {server.url}", "") == shown[1].replace(f" --database {database_url}", "")
    assert "org/tiny" in shown[0]


def test_a_job_is_followed_to_its_end(
    autokv: Run,
    place: list[str],
    client: Client,
    worker: ScriptedWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autokv.cli.database_store.POLL_SECONDS", 0.01)
    job = client.jobs.submit({"model": "org/tiny", "trials": 3}).id

    def run() -> None:
        worker.claim()
        worker.database.queue.message(worker.lease, "loading tiny")
        worker.finish()

    running = threading.Thread(target=run)
    running.start()
    code, out, err = autokv("jobs", "watch", job, *place)
    running.join()
    assert (code, err) == (0, "")
    assert "loading tiny\n" in out
    assert "done: it is the only one\n" in out
    for line in out.splitlines()[-3:]:
        code, _, err = autokv(*shlex.split(line.partition(": autokv ")[2]))
        assert code == 0, err
    found = ConfigurationDocument.load(tmp_path / "autokv-results" / "recommended.json")
    assert client.configurations.get(client.aliases.get("tiny").configuration).digest == found.digest


def test_a_job_is_cancelled_and_run_again(autokv: Run, place: list[str], client: Client) -> None:
    job = client.jobs.submit({"model": "tiny"}).id
    assert autokv("jobs", "cancel", job, *place)[:2] == (0, "cancelled\n")
    assert autokv("jobs", "watch", job, *place)[0] == 1
    (told,) = re.findall(r"^to go on: autokv (.+)$", autokv("jobs", "show", job, *place)[1], flags=re.MULTILINE)
    assert autokv(*shlex.split(told))[:2] == (0, "queued\n")


def test_who_stops_following_is_told_how_to_go_on(
    autokv: Run, client: Client, server: Server, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.jobs.submit({"model": "tiny"}).id

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autokv.cli.database_store.time.sleep", stop)
    code, _, err = autokv("jobs", "watch", job[:6], "--database", database_url)
    assert code == 130
    assert f"job {job} goes on; see it with `autokv jobs watch {job} --database {database_url}`" in err


def test_an_alias_from_its_making_to_its_end(autokv: Run, place: list[str], done: str, client: Client) -> None:
    recommended = client.jobs.get(done).recommended
    assert autokv("aliases", "set", "prod", recommended, *place)[1].startswith("prod is at revision 1")
    assert autokv("aliases", "set", "prod", recommended, *place)[1].startswith("prod is at revision 2")
    assert autokv("aliases", "set", "prod", recommended, "--revision", 1, *place)[0] == 2
    assert autokv("aliases", "rollback", "prod", "--to", 1, *place)[1].startswith("prod is at revision 3")
    assert autokv("aliases", "download", "prod", "--output", "new/prod.yaml", *place)[1] == "wrote new/prod.yaml\n"
    assert ConfigurationDocument.load("new/prod.yaml").digest == client.aliases.get("prod").digest
    assert autokv("aliases", "set", "Not A Name", recommended, *place)[0] == 2
    assert autokv("aliases", "delete", "prod", *place)[:2] == (0, "prod is deleted\n")
    assert autokv("aliases", "show", "prod", *place)[0] == 2


def test_a_server_comes_before_a_database_unless_one_is_named(
    autokv: Run, server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = f"sqlite:///{tmp_path / 'here.db'}"
    with Database(here) as database:
        request = TuningRequest(model="tiny")
        local = database.queue.submit(request, submission={"model": "tiny"}, selector=Selector().to_json())[0].id
    monkeypatch.setenv("AUTOKV_DATABASE_URL", here)
    assert local in autokv("jobs", "list")[1]
    there = client.jobs.submit({"model": "tiny"}).id
    monkeypatch.setenv("AUTOKV_SERVER_URL", server.url)
    assert [one["id"] for one in json.loads(autokv("jobs", "list", "--json")[1])] == [there]
    assert local in autokv("jobs", "list", "--database", here)[1]
    assert autokv("jobs", "cancel", local, "--database", here)[1] == "cancelled\n"
    shown = autokv("jobs", "show", local, "--database", here)[1]
    assert f"to go on: autokv jobs retry {local} --database {here}\n" in shown


def test_a_job_is_submitted_to_the_local_server_unless_another_is_named(
    autokv: Run, server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTOKV_SERVER_URL", raising=False)
    monkeypatch.setattr(settings, "LOCAL_SERVER", server.url)
    code, out, err = autokv("jobs", "submit", "--model", "tiny")
    assert code == 0, err
    assert client.jobs.get(out.strip()).state == "queued"


def test_a_server_and_a_database_at_once_are_refused(autokv: Run) -> None:
    code, _, err = autokv("jobs", "list", "--server", "http://there", "--database", "sqlite:///here.db")
    assert (code, err) == (2, "error: --server: cannot be combined with --database; give one of them\n")


def test_the_earlier_spellings_still_work(
    autokv: Run, server: Server, client: Client, done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autokv.settings.LOCAL_SERVER", server.url)
    recommended = client.jobs.get(done).recommended
    assert recommended
    waiting = autokv("remote", "submit", "--model", "tiny")[1].strip()
    for old, new in (
        (("submit", "--model", "tiny", "--validate"), "jobs submit"),
        (("list",), "jobs list"),
        (("show", done), "jobs show"),
        (("watch", done), "jobs watch"),
        (("cancel", waiting), "jobs cancel"),
        (("retry", waiting), "jobs retry"),
        (("download", done), "jobs download"),
        (("download", "--configuration", recommended), "configs download"),
        (("alias", "set", "prod", recommended), "aliases set"),
        (("alias", "set", "prod", recommended), "aliases set"),
        (("alias", "list"), "aliases list"),
        (("alias", "show", "prod"), "aliases show"),
        (("alias", "rollback", "prod"), "aliases rollback"),
        (("download", "--alias", "prod"), "aliases download"),
        (("alias", "delete", "prod"), "aliases delete"),
    ):
        code, out, err = autokv("remote", *old)
        assert code == 0, err
        assert out
        assert re.findall(r"^`autokv remote .+` is now `autokv (.+)`$", err, flags=re.MULTILINE) == [new]
    assert {"prod.json", f"{recommended[:12]}.json", "autokv-results"} <= {path.name for path in Path().iterdir()}
    assert json.loads(autokv("remote", "show", done, "--json")[1])["state"] == "done"
    assert autokv("remote", "download")[0] == 2
    assert autokv("remote", "download", "job", "--alias", "prod")[0] == 2
    assert "remote" not in autokv("--help")[1]
