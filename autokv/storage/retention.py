"""Jobs that nobody runs any more go back into the queue; old ones go, with everything that belongs to them."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from autokv.errors import ConflictError
from autokv.storage.attempts import give_back
from autokv.storage.lease import lives, runner, this_host
from autokv.storage.repository import Sessions, now
from autokv.storage.service_tables import AliasMoveRow, AttemptRow, EventRow, IdempotencyKeyRow, WorkerRow
from autokv.storage.tables import (
    ConfigurationRow,
    FrontPointRow,
    JobRow,
    MeasurementRow,
    ResultRow,
    SampleRow,
    TrialRow,
)
from autokv.wire import FINAL_STATES

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
        silent = row.lease_until is not None and row.lease_until < time
        why = "its worker was not heard of any more" if silent else "the process of its worker is gone"
        give_back(session, row, "lost", why, time)
        return True


def remove(session: Session, row: JobRow) -> None:
    """Delete a finished job, whose row is locked.

    Raises:
        ConflictError: an alias stands or stood for a configuration of it.
    """
    alias = _alias(session, row.id)
    if alias is not None:
        raise ConflictError(
            f"has a configuration that the alias {alias!r} stands or stood for",
            field=f"job {row.id}",
            remedy="delete the alias first",
        )
    measured = select(MeasurementRow.id).where(MeasurementRow.job_id == row.id)
    session.execute(delete(FrontPointRow).where(FrontPointRow.job_id == row.id))
    session.execute(delete(SampleRow).where(SampleRow.measurement_id.in_(measured)))
    for table in (ConfigurationRow, ResultRow, MeasurementRow, TrialRow, EventRow, AttemptRow, IdempotencyKeyRow):
        session.execute(delete(table).where(table.job_id == row.id))
    session.delete(row)


def expire(reading: Sessions, writing: Sessions, days: float) -> tuple[str, ...]:
    """Delete the service's jobs that finished more than ``days`` ago, but for those that aliases need, and the workers
    that were not heard of since then and that no attempt names any more."""
    with reading() as session:
        then = now(session) - timedelta(days=days)
        old = (JobRow.local.is_(False), JobRow.state.in_(FINAL_STATES), JobRow.finished_at < then)
        ids = session.scalars(select(JobRow.id).where(*old).order_by(JobRow.finished_at)).all()
    gone = []
    for job_id in ids:
        # A row that is gone, or that is retried just now, is left to the next time; so is one that an alias needs.
        with suppress(ConflictError), writing() as session:
            query = select(JobRow).where(JobRow.id == job_id, *old).with_for_update(skip_locked=True)
            row = session.scalars(query).one_or_none()
            if row is not None:
                remove(session, row)
                gone.append(job_id)
    named = select(AttemptRow.worker).where(AttemptRow.worker == WorkerRow.id).exists()
    with suppress(ConflictError), writing() as session:
        session.execute(delete(WorkerRow).where(WorkerRow.until < then, ~named))
    return tuple(gone)


def _alias(session: Session, job_id: str) -> str | None:
    query = (
        select(AliasMoveRow.alias)
        .join(ConfigurationRow, ConfigurationRow.id == AliasMoveRow.configuration)
        .where(ConfigurationRow.job_id == job_id)
        .order_by(AliasMoveRow.alias)
        .limit(1)
    )
    return session.scalar(query)
