"""A command is the worker of its own job: it keeps the lease, and stores how its run ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from autokv.errors import LeaseLostError, RequestError
from autokv.hardware.catalog import sheets
from autokv.jobs.attempt import JobRun
from autokv.jobs.local_job import claimed
from autokv.jobs.probing import Probed
from autokv.storage import Database
from autokv.storage.tables import JobRow
from autokv.tuning.request import TuningRequest

Until = Callable[[str, Callable[[], Any]], Any]
DEVICE = Probed("cpu", sheets()["l4"].profile())


@pytest.fixture
def database(ready_sqlite_url: str) -> Iterator[Database]:
    with Database(ready_sqlite_url) as opened:
        yield opened


@pytest.fixture
def job(database: Database) -> str:
    return database.queue.submit(TuningRequest(model="tiny"))[0].id


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def test_a_block_that_ends_early_leaves_an_interrupted_job(database: Database, job: str, stop: threading.Event) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(database, job, DEVICE, stop) as lease, JobRun(database, lease):
        raise KeyboardInterrupt
    found = database.jobs.get(job)
    assert (found.state, found.reason, found.runner) == ("interrupted", "stopped before it had finished", None)

    def run() -> None:
        with claimed(database, job, DEVICE, stop) as again, JobRun(database, again):
            assert again.attempt == 2
            assert database.jobs.get(job).reason is None
            raise RequestError("too little", field="memory")

    with pytest.raises(RequestError, match="too little"):
        run()
    found = database.jobs.get(job)
    assert (found.state, found.reason) == ("failed", "memory: too little")
    assert [attempt.outcome for attempt in database.queue.look(job).attempts] == ["released", "failed"]
    assert not stop.is_set()


def test_it_is_a_worker_that_takes_no_other_job(database: Database, job: str, stop: threading.Event) -> None:
    with claimed(database, job, DEVICE, stop):
        (worker,) = database.workers.list(alive_only=True)
        assert (worker.state, worker.job, worker.device) == ("draining", job, "cpu")
    assert [one.state for one in database.workers.list()] == ["stopped"]


def test_the_heartbeat_beats(
    database: Database, job: str, stop: threading.Event, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOKV_HEARTBEAT_SECONDS", "0.05")
    with claimed(database, job, DEVICE, stop):
        past = datetime(2020, 1, 1, tzinfo=UTC)
        with database.writing() as session:
            session.execute(update(JobRow).values(heartbeat_at=past, lease_until=past))
        until("a heartbeat", lambda: database.jobs.get(job).runner)
        assert database.jobs.get(job).state == "running"


def test_a_job_that_is_cancelled_stops(
    database: Database, job: str, stop: threading.Event, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOKV_HEARTBEAT_SECONDS", "0.05")

    def run() -> None:
        with claimed(database, job, DEVICE, stop) as lease, JobRun(database, lease):
            database.queue.cancel(job, "not needed any more")
            until("the run to be stopped", stop.is_set)
            raise KeyboardInterrupt

    with pytest.raises(LeaseLostError, match=f"was cancelled; follow it with `autokv jobs show {job}`"):
        run()
    assert (database.jobs.get(job).state, database.jobs.get(job).reason) == ("cancelled", "not needed any more")
