"""Whatever is killed or full: what was said to be stored is there, and nothing is half there."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autokv.errors import StorageError, UnavailableError
from autokv.storage import Database
from autokv.storage.tables import MeasurementRow, SampleRow, TrialRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TrialRecord, TrialState

ADD_TRIALS = """
import sys
from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.tuning.trial import TrialRecord

url, job_id, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = CompressionConfig()
samples = [{"id": str(i), "kind": "text", "context_tokens": 9, "kl_divergence": i / 7} for i in range(40)]
measurement = Measurement.of_samples(config, samples)
database = Database(url)
for number in range(start, 100_000):
    database.trials.add(job_id, TrialRecord(number, "complete", {}, "tpe", config, measurement, None, 0.1))
    print(number, flush=True)
"""


def test_a_candidate_that_could_not_run_is_stored_but_not_counted(
    database: Database, job_id: str, record: Callable[..., TrialRecord]
) -> None:
    states: tuple[TrialState, ...] = ("complete", "infeasible", "failed", "infeasible")
    for number, state in enumerate(states):
        stored = record(number)
        if state != "complete":
            stored = replace(stored, state=state, measurement=None, reason="too large")
        database.trials.add(job_id, stored)
    assert len(database.trials.of(job_id)) == 4
    assert database.jobs.get(job_id).trials == 2
    assert [job.trials for job in database.jobs.list()] == [2]


@pytest.mark.parametrize("commits", [1, 20])
def test_a_killed_process_loses_nothing_that_it_reported(
    url: str, database: Database, job_id: str, commits: int
) -> None:
    reported = -1
    for _ in range(2):
        start = len(database.trials.of(job_id))
        child = subprocess.Popen(
            [sys.executable, "-c", ADD_TRIALS, url, job_id, str(start)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(commits):
            reported = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]
        reported = max([reported, *map(int, rest)])
        assert child.wait() == -signal.SIGKILL
        stored = database.trials.of(job_id)
        assert [record.number for record in stored] == list(range(len(stored)))
        assert len(stored) >= reported + 1
        for record in stored:
            assert record.measurement is not None
            assert [sample["id"] for sample in record.measurement.samples] == [str(i) for i in range(40)]


def test_a_trial_that_fails_half_way_is_not_stored(
    database: Database, job_id: str, record: Callable[..., TrialRecord]
) -> None:
    def fail(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("INSERT INTO samples"):
            raise KeyboardInterrupt

    event.listen(database._engine, "before_cursor_execute", fail)
    with pytest.raises(KeyboardInterrupt):
        database.trials.add(job_id, record(0))
    event.remove(database._engine, "before_cursor_execute", fail)
    with database.reading() as session:
        assert _counts(session) == (0, 0, 0)
    database.trials.add(job_id, record(0))
    with database.reading() as session:
        assert _counts(session) == (1, 1, 3)


def _counts(session: Session) -> tuple[int, ...]:
    tables = (TrialRow, MeasurementRow, SampleRow)
    return tuple(session.scalars(select(func.count()).select_from(row)).one() for row in tables)


def test_a_full_disk_keeps_what_was_stored(sqlite_url: str, record: Callable[..., TrialRecord]) -> None:
    with Database(sqlite_url) as database:
        job_id = database.queue.submit(TuningRequest(model="tiny"))[0].id
        database.trials.add(job_id, record(0))
        with database.reading() as session:
            pages = session.scalar(text("PRAGMA page_count"))

        def limit(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")

        database.close()
        event.listen(database._engine, "connect", limit)
        with pytest.raises(StorageError, match="the disk is full; what was stored before is untouched"):
            database.trials.add(job_id, record(1, samples=500))
        assert database.trials.of(job_id) == [record(0)]
        event.remove(database._engine, "connect", limit)
        database.close()
        database.trials.add(job_id, record(1, samples=500))
        assert database.trials.of(job_id) == [record(0), record(1, samples=500)]


def test_foreign_keys_are_enforced(database: Database, record: Callable[..., TrialRecord]) -> None:
    with pytest.raises(StorageError, match="refused"):
        database.trials.add("ffffffffffff", record(0))
    with pytest.raises(StorageError) as caught, database.writing() as session:
        session.add(SampleRow(measurement_id=77, position=0, result={}))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_states_are_checked(database: Database, job_id: str) -> None:
    with pytest.raises(StorageError, match=r"refused what contradicts .*ck_trials_state"):
        database.trials.add(job_id, TrialRecord(0, "lost", {}, "tpe", None, None, None, 0.1))  # type: ignore[arg-type]


def test_a_write_waits_for_another_and_a_read_does_not(
    url: str, database: Database, job_id: str, record: Callable[..., TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autokv.storage.sqlite.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("autokv.storage.postgresql.LOCK_SECONDS", 0.05)
    with Database(url) as other, database.writing() as session:
        session.execute(text("UPDATE jobs SET attempts = attempts"))
        assert other.jobs.get(job_id).state == "queued"
        with pytest.raises(UnavailableError, match=r"locked by another process .*wait for it|did not get to it"):
            other.queue.cancel(job_id, "no memory")
    database.trials.add(job_id, record(0))
    assert database.trials.of(job_id) == [record(0)]
