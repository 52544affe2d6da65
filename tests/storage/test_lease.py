"""A job is run by one process; one whose process is gone is taken over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from autokv.errors import LeaseLostError, StorageError
from autokv.storage import Database
from autokv.storage.tables import JobRow
from autokv.tuning.trial import TrialRecord, TuningResult

HOLD = """
import sys, time
from autokv.storage import Database
database = Database(sys.argv[1])
print(database.queue.take(sys.argv[2], sys.argv[3], 600).lease.attempt, flush=True)
time.sleep(600)
"""
Record = Callable[..., TrialRecord]


def alter(database: Database, **values: object) -> None:
    with database.writing() as session:
        session.execute(update(JobRow).values(**values))


def age(database: Database) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    alter(database, heartbeat_at=past, lease_until=past)


def test_a_running_job_is_refused_and_a_dead_one_taken_over(
    url: str, database: Database, job_id: str, worker: str, record: Record
) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, url, worker, job_id], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        assert database.jobs.get(job_id).state == "running"
        with pytest.raises(StorageError, match=rf"is running \(process {child.pid} on .*wait for it"):
            database.queue.take(worker, job_id, 600)
    finally:
        child.kill()
        # Not reaped here, so that it stays a zombie: that runs nothing either.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    job = database.jobs.get(job_id)
    assert (job.state, job.reason, job.runner) == ("interrupted", "the process that ran it is gone", None)
    taken = database.queue.take(worker, job_id, 600).lease
    assert taken.attempt == 2
    database.trials.add(job_id, record(0), lease=taken)
    assert database.jobs.get(job_id).state == "running"
    assert [attempt.outcome for attempt in database.queue.look(job_id).attempts] == ["lost", None]
    child.wait()


def test_a_stale_heartbeat_of_another_host_is_taken_over_and_the_sleeper_fenced(
    database: Database, job_id: str, worker: str, record: Record
) -> None:
    sleeper = database.queue.take(worker, job_id, 600).lease
    alter(database, owner_host="elsewhere", owner_process=1)
    with pytest.raises(StorageError, match="on elsewhere"):
        database.queue.take(worker, job_id, 600)
    age(database)
    assert database.jobs.get(job_id).state == "interrupted"
    taken = database.queue.take(worker, job_id, 600).lease
    with pytest.raises(StorageError, match="taken this job over"):
        database.trials.add(job_id, record(0), lease=sleeper)
    with pytest.raises(StorageError, match="taken this job over"):
        database.queue.fail(sleeper, "asleep")
    with pytest.raises(StorageError, match="taken this job over"):
        database.results.save(job_id, TuningResult((), [], [], None), lease=sleeper)
    database.trials.add(job_id, record(0), lease=taken)
    assert database.trials.of(job_id) == [record(0)]


def test_letting_go_late_does_not_end_the_successors_run(database: Database, job_id: str, worker: str) -> None:
    sleeper = database.queue.take(worker, job_id, 600).lease
    age(database)
    successor = database.queue.take(worker, job_id, 600).lease
    with pytest.raises(LeaseLostError):
        database.queue.release(sleeper, "stopped")
    assert database.jobs.get(job_id).state == "running"
    database.queue.release(successor, "stopped")
    assert database.jobs.get(job_id).state == "interrupted"


def test_a_row_without_an_end_of_its_lease_is_one_of_an_earlier_version(
    database: Database, job_id: str, worker: str
) -> None:
    database.queue.take(worker, job_id, 600)
    alter(database, lease_until=None)
    assert database.jobs.get(job_id).runner is not None
    alter(database, heartbeat_at=datetime.now(UTC) - timedelta(seconds=61))
    assert database.jobs.get(job_id).state == "interrupted"


def test_a_job_that_is_done_is_not_run_again(database: Database, job_id: str, worker: str) -> None:
    held = database.queue.take(worker, job_id, 600).lease
    database.results.save(job_id, TuningResult((), [], [], None, reason="nothing meets them"), lease=held)
    with pytest.raises(StorageError, match=r"is done; see `autokv jobs show"):
        database.queue.take(worker, job_id, 600)
    with pytest.raises(StorageError, match="no such job"):
        database.queue.take(worker, "ffffffffffff", 600)
    with pytest.raises(StorageError, match="no such job"):
        database.queue.cancel("ffffffffffff", "x")
