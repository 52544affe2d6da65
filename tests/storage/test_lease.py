"""A job is run by one process; one whose process is gone is taken over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from autokv.errors import StorageError
from autokv.storage import Database, lease
from autokv.storage.tables import JobRow
from autokv.tuning.trial import TrialRecord, TuningResult

HOLD = """
import sys, time
from autokv.storage import Database
database = Database(sys.argv[1])
with database.jobs.lease(sys.argv[2]) as lease:
    print(lease.attempt, flush=True)
    time.sleep(600)
"""


def alter(database: Database, **values: object) -> None:
    with database.writing() as session:
        session.execute(update(JobRow).values(**values))


def age(database: Database) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    alter(database, heartbeat_at=past, lease_until=past)


def test_a_running_job_is_refused_and_a_dead_one_taken_over(
    url: str, database: Database, job_id: str, record: Callable[..., TrialRecord]
) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, url, job_id], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        assert database.jobs.get(job_id).state == "running"
        with (
            pytest.raises(StorageError, match=rf"is running \(process {child.pid} on .*wait for it"),
            database.jobs.lease(job_id),
        ):
            pass
    finally:
        child.kill()
        # Not reaped here, so that it stays a zombie: that runs nothing either.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    job = database.jobs.get(job_id)
    assert (job.state, job.reason, job.runner) == ("interrupted", "the process that ran it is gone", None)
    with database.jobs.lease(job_id) as taken:
        assert taken.attempt == 2
        database.trials.add(job_id, record(0), lease=taken)
        assert database.jobs.get(job_id).state == "running"
    child.wait()


def test_a_stale_heartbeat_of_another_host_is_taken_over_and_the_sleeper_fenced(
    database: Database, job_id: str, record: Callable[..., TrialRecord]
) -> None:
    with database.jobs.lease(job_id) as sleeper:
        alter(database, owner_host="elsewhere", owner_process=1)
        with pytest.raises(StorageError, match="on elsewhere"), database.jobs.lease(job_id):
            pass
        age(database)
        assert database.jobs.get(job_id).state == "interrupted"
        with database.jobs.lease(job_id) as taken:
            with pytest.raises(StorageError, match="taken this job over"):
                database.trials.add(job_id, record(0), lease=sleeper)
            with pytest.raises(StorageError, match="taken this job over"):
                database.jobs.mark(job_id, "failed", "asleep", lease=sleeper)
            with pytest.raises(StorageError, match="taken this job over"):
                database.results.save(job_id, TuningResult((), [], [], None), lease=sleeper)
            database.trials.add(job_id, record(0), lease=taken)
            assert database.trials.of(job_id) == [record(0)]


def test_letting_go_late_does_not_end_the_successors_run(database: Database, job_id: str) -> None:
    with database.jobs.lease(job_id):
        age(database)
        successor = database.jobs.lease(job_id)
        successor.__enter__()
    assert database.jobs.get(job_id).state == "running"
    successor.__exit__(None, None, None)
    assert database.jobs.get(job_id).state == "interrupted"


def test_the_heartbeat_beats(database: Database, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.01)
    with database.jobs.lease(job_id):
        age(database)
        for _ in range(2000):
            if database.jobs.get(job_id).runner is not None:
                break
        assert database.jobs.get(job_id).state == "running"


def test_a_block_that_ends_early_leaves_an_interrupted_job(database: Database, job_id: str) -> None:
    with pytest.raises(KeyboardInterrupt), database.jobs.lease(job_id):
        raise KeyboardInterrupt
    job = database.jobs.get(job_id)
    assert (job.state, job.reason, job.runner) == ("interrupted", "stopped before it had finished", None)
    with database.jobs.lease(job_id) as again:
        assert again.attempt == 2
        assert database.jobs.get(job_id).reason is None
        database.jobs.mark(job_id, "failed", "no memory", lease=again)
    job = database.jobs.get(job_id)
    assert (job.state, job.reason) == ("failed", "no memory")


def test_a_job_that_is_done_is_not_run_again(database: Database, job_id: str) -> None:
    with database.jobs.lease(job_id) as held:
        database.results.save(job_id, TuningResult((), [], [], None, reason="nothing meets them"), lease=held)
    with pytest.raises(StorageError, match=r"is done; see `autokv jobs show"), database.jobs.lease(job_id):
        pass
    with pytest.raises(StorageError, match="no such job"), database.jobs.lease("ffffffffffff"):
        pass
    with pytest.raises(StorageError, match="no such job"):
        database.jobs.mark("ffffffffffff", "failed", "x")
