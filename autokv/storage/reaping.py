"""Reaping: what workers that are gone ran goes back into the queue."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from autokv.storage.attempts import give_back
from autokv.storage.clock import now
from autokv.storage.lease import lives, runner, this_host
from autokv.storage.service_tables import WorkerRow
from autokv.storage.sessions import Sessions
from autokv.storage.tables import JobRow

_RUNNING = (JobRow.state == "running", JobRow.local.is_(False))


def reap(reading: Sessions, writing: Sessions) -> tuple[str, ...]:
    """Give back the jobs of owners that are gone, and note which workers are; returns the ids of those jobs.

    It writes only where something is to be written, so it may be called often.
    """
    here = this_host()
    with reading() as session:
        time = now(session)
        suspects = [row.id for row in session.scalars(select(JobRow).where(*_RUNNING)) if runner(row, time) is None]
        alive = (WorkerRow.state != "stopped", WorkerRow.until > time, WorkerRow.host == here)
        mates = session.execute(select(WorkerRow.id, WorkerRow.process).where(*alive)).all()
    lost = tuple(job_id for job_id in suspects if _take(writing, job_id))
    dead = [worker for worker, process in mates if not lives(process)]
    if dead:
        with writing() as session:
            session.execute(update(WorkerRow).where(WorkerRow.id.in_(dead)).values(until=now(session)))
    return lost


def _take(writing: Sessions, job_id: str) -> bool:
    """Each in a transaction of its own: a job that changes meanwhile holds up no other."""
    query = select(JobRow).where(JobRow.id == job_id, *_RUNNING).with_for_update(skip_locked=True)
    with writing() as session:
        row, time = session.scalars(query).one_or_none(), now(session)
        if row is None or runner(row, time) is not None:
            return False
        give_back(session, row, "lost", _why(row, time), time)
        return True


def _why(row: JobRow, time: datetime) -> str:
    if row.lease_until is not None and row.lease_until < time:
        return "its worker was not heard of any more"
    return "the process of its worker is gone"
