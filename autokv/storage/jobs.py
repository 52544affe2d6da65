"""Jobs: one per tuning run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autokv.errors import StorageError
from autokv.storage.columns import database_now, fingerprint
from autokv.storage.lease import Lease, held, runner
from autokv.storage.lookup import only_match
from autokv.storage.sessions import Sessions
from autokv.storage.tables import JOB_ID, JobRow, JobState, ModelRow, TrialRow
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import StoppedBy

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A job as it stands. Times are UTC, from the database's clock."""

    id: str
    state: JobState
    """``interrupted`` also where the process that ran it is gone."""
    request: TuningRequest
    model: Facts | None
    hardware: Facts | None
    workload: Facts | None
    versions: Mapping[str, str]
    trials: int
    """Trials stored so far."""
    reason: str | None
    """Why it failed or was interrupted, in one line."""
    stopped_by: StoppedBy | None
    """What ended the search."""
    attempts: int
    runner: str | None
    """Who runs it now."""
    created: datetime
    started: datetime | None
    finished: datetime | None


class Jobs:
    """The repository of jobs. A job's id may be shortened to any prefix that only it has."""

    def __init__(self, reading: Sessions, writing: Sessions) -> None:
        self._reading, self._writing = reading, writing

    def create(
        self,
        request: TuningRequest,
        *,
        model: Facts | None = None,
        hardware: Facts | None = None,
        workload: Facts | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> str:
        """Store a queued job and return its id. The facts are JSON documents."""
        job_id = secrets.token_hex(JOB_ID // 2)
        with self._writing() as session:
            session.add(
                JobRow(
                    id=job_id,
                    state="queued",
                    request=request.model_dump(mode="json"),
                    model=None if model is None else _model(session, model),
                    hardware=hardware,
                    workload=workload,
                    versions=versions or {},
                )
            )
        return job_id

    def get(self, prefix: str) -> Job:
        """The job whose id begins with ``prefix``.

        Raises:
            StorageError: no job, or more than one, has it.
        """
        with self._reading() as session:
            matches = session.scalars(
                select(JobRow.id).where(JobRow.id.startswith(prefix.lower(), autoescape=True)).order_by(JobRow.id)
            )
            job_id = only_match("job", prefix, matches.all(), "see `autokv jobs list`")
            return _jobs(session, job_id)[0]

    def list(self) -> tuple[Job, ...]:
        """Every job, the newest first."""
        with self._reading() as session:
            return _jobs(session)

    def lease(self, job_id: str) -> AbstractContextManager[Lease]:
        """Run a job: ``with jobs.lease(job_id) as lease``; see :mod:`autokv.storage.lease`.

        Raises:
            StorageError: the job runs elsewhere, is done, or does not exist.
        """
        return held(self._writing, job_id)

    def mark(
        self, job_id: str, state: Literal["done", "failed", "interrupted"], reason: str, *, lease: Lease | None = None
    ) -> None:
        """Say how a job ended where there is no result that says it.

        Raises:
            StorageError: the job does not exist, or ``lease`` is lost.
        """
        with self._writing() as session:
            if lease is not None:
                lease.require(session)
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None:
                raise StorageError("there is no such job", field=f"job {job_id}", remedy="see `autokv jobs list`")
            row.state, row.reason = state, reason
            row.finished_at = database_now()


def _model(session: Session, facts: Facts) -> str:
    """The row of these facts, added where it is new; another process may add it first."""
    key = fingerprint(facts)
    if session.get(ModelRow, key) is None:
        try:
            with session.begin_nested():
                session.add(ModelRow(fingerprint=key, facts=facts))
        except IntegrityError:
            session.expire_all()
    return key


def _jobs(session: Session, job_id: str | None = None) -> tuple[Job, ...]:
    done = select(func.count()).where(TrialRow.job_id == JobRow.id).scalar_subquery()
    query = (
        select(JobRow, ModelRow.facts, done)
        .outerjoin(ModelRow, ModelRow.fingerprint == JobRow.model)
        .order_by(JobRow.created_at.desc(), JobRow.id)
    )
    if job_id is not None:
        query = query.where(JobRow.id == job_id)
    now = session.scalars(select(database_now())).one()
    return tuple(_job(row, facts, trials, now) for row, facts, trials in session.execute(query))


def _job(row: JobRow, model: Facts | None, trials: int, now: datetime) -> Job:
    running = runner(row, now)
    died = row.state == "running" and running is None
    return Job(
        id=row.id,
        state="interrupted" if died else row.state,
        request=TuningRequest.model_validate(row.request),
        model=model,
        hardware=row.hardware,
        workload=row.workload,
        versions=row.versions,
        trials=trials,
        reason="the process that ran it is gone" if died else row.reason,
        stopped_by=row.stopped_by,
        attempts=row.attempts,
        runner=running,
        created=row.created_at,
        started=row.started_at,
        finished=row.finished_at,
    )
