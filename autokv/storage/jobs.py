"""Jobs: one per tuning run, of the command line (``local``) or of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, bindparam, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from autokv.errors import NotFoundError
from autokv.storage.columns import database_now, fingerprint
from autokv.storage.events import append
from autokv.storage.lease import Lease, held, let_go, locked, runner
from autokv.storage.repository import Cursor, Sessions, cut, newest_first, now, only_match
from autokv.storage.tables import JobRow, ModelRow, new_id
from autokv.storage.trials import count_ran
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import StoppedBy
from autokv.wire import JobState

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A job as it stands. Times are UTC, from the database's clock."""

    id: str
    state: JobState
    """Of a local job ``interrupted`` also where the process that ran it is gone."""
    request: TuningRequest
    model: Facts | None
    """Facts; these and the next two are left out of pages."""
    hardware: Facts | None
    workload: Facts | None
    versions: Mapping[str, str]
    trials: int
    """Trials that have run and are stored; candidates that were known not to run do not count."""
    reason: str | None
    """Why it failed, was cancelled or was interrupted, in one line."""
    stopped_by: StoppedBy | None
    """What ended the search."""
    attempts: int
    runner: str | None
    """Who runs it now."""
    created: datetime
    started: datetime | None
    finished: datetime | None
    local: bool = True
    """Run by the command that made it; no worker takes it."""
    selector: str | None = None
    submission: Mapping[str, Any] | None = None
    """What was submitted over HTTP, as it was sent."""
    trace: str | None = None
    prompts: str | None = None
    profile: str | None = None
    """Ids of the uploads and of the hardware profile that it refers to."""
    worker: str | None = None
    """Id of the worker that runs it now."""
    crashes: int = 0
    """Attempts in a row that crashed without a finished trial."""
    conditions: Mapping[str, Mapping[str, Any]] | None = None
    progress: Mapping[str, Any] | None = None
    last_event: int = 0


class Jobs:
    """The repository of jobs."""

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
        """Store a job that this process is about to run, and return its id. The facts are JSON documents."""
        job_id = new_id()
        with self._writing() as session:
            session.add(
                JobRow(
                    id=job_id,
                    state="queued",
                    request=request.model_dump(mode="json"),
                    model=None if model is None else model_key(session, model),
                    hardware=hardware,
                    workload=workload,
                    versions=versions or {},
                )
            )
        return job_id

    def get(self, prefix: str) -> Job:
        """The job whose id begins with ``prefix``.

        Raises:
            NotFoundError: no job has it.
            StorageError: more than one has it.
        """
        with self._reading() as session:
            matches = session.scalars(
                select(JobRow.id).where(JobRow.id.startswith(prefix.lower(), autoescape=True)).order_by(JobRow.id)
            )
            job_id = only_match("job", prefix, matches.all(), "see `autokv jobs list`")
            return job_of(session, job_id)

    def find(self, job_id: str) -> Job:
        """The job of this id.

        Raises:
            NotFoundError: there is none.
        """
        with self._reading() as session:
            return job_of(session, job_id)

    def list(self) -> tuple[Job, ...]:
        """Every job, the newest first."""
        with self._reading() as session:
            return _jobs(session, job_query().order_by(JobRow.created_at.desc(), JobRow.id))

    def page(
        self,
        *,
        states: Sequence[JobState] = (),
        model: str | None = None,
        hardware: str | None = None,
        workload: str | None = None,
        cursor: Cursor = None,
        limit: int = 50,
    ) -> tuple[tuple[Job, ...], Cursor]:
        """A page of jobs, the newest first, and the cursor of the next; filtered by what was requested."""
        query = job_query(facts=False).options(defer(JobRow.hardware), defer(JobRow.workload))
        if states:
            query = query.where(JobRow.state.in_(states))
        for name, value in (("model", model), ("hardware", hardware), ("workload", workload)):
            if value is not None:
                query = query.where(JobRow.request[name].as_string() == value)
        query = newest_first(query, (JobRow.created_at, JobRow.id), cursor, limit)
        with self._reading() as session:
            page, following = cut(_jobs(session, query, facts=False), limit, lambda job: (job.created, job.id))
        return tuple(page), following

    def lease(self, job_id: str) -> AbstractContextManager[Lease]:
        """Run a job of the command line: ``with jobs.lease(job_id) as lease``; see :mod:`autokv.storage.lease`.

        Raises:
            ConflictError: the job runs elsewhere, is done, or is the service's.
            NotFoundError: there is no such job.
        """
        return held(self._writing, job_id)

    def mark(
        self, job_id: str, state: Literal["done", "failed", "interrupted"], reason: str, *, lease: Lease | None = None
    ) -> None:
        """Say how a job of the command line ended where there is no result that says it.

        Raises:
            NotFoundError: there is no such job.
            LeaseLostError: ``lease`` is lost.
        """
        with self._writing() as session:
            row = locked(session, job_id) if lease is None else lease.require(session)
            row.state, row.reason, row.finished_at = state, reason, now(session)
            let_go(row)
            if state == "interrupted":
                append(session, row, "released", {"attempt": row.attempts, "reason": reason})
            else:
                append(session, row, state, {"reason": reason})


def model_key(session: Session, facts: Facts) -> str:
    """The row of these facts of a model, added where it is new; another process may add it first."""
    key = fingerprint(facts)
    if session.get(ModelRow, key) is None:
        try:
            with session.begin_nested():
                session.add(ModelRow(fingerprint=key, facts=facts))
        except IntegrityError:
            session.expire_all()
    return key


def job_query(*, facts: bool = True) -> Select[Any]:
    """Jobs, the facts of their models, how many trials of each ran, and the time: what :func:`as_job` takes."""
    trials = count_ran(JobRow.id).scalar_subquery()
    if not facts:
        return select(JobRow, null(), trials, database_now())
    query = select(JobRow, ModelRow.facts, trials, database_now())
    return query.outerjoin(ModelRow, ModelRow.fingerprint == JobRow.model)


_ONE = job_query().where(JobRow.id == bindparam("job_id"))


def job_of(session: Session, job_id: str) -> Job:
    """The job of this id, as this transaction sees it.

    Raises:
        NotFoundError: there is none.
    """
    found = session.execute(_ONE, {"job_id": job_id}).first()
    if found is None:
        raise NotFoundError("there is no such job", field=f"job {job_id}", remedy="see `autokv jobs list`")
    return as_job(*found)


def _jobs(session: Session, query: Select[Any], *, facts: bool = True) -> tuple[Job, ...]:
    return tuple(as_job(row, model, trials, time, facts) for row, model, trials, time in session.execute(query))


def as_job(row: JobRow, model: Facts | None, trials: int, time: datetime, facts: bool = True) -> Job:
    """A row as what it means at ``time``."""
    running = runner(row, time)
    died = row.local and row.state == "running" and running is None
    return Job(
        id=row.id,
        state="interrupted" if died else row.state,
        request=TuningRequest.model_validate(row.request),
        model=model,
        hardware=row.hardware if facts else None,
        workload=row.workload if facts else None,
        versions=row.versions,
        trials=trials,
        reason="the process that ran it is gone" if died else row.reason,
        stopped_by=row.stopped_by,
        attempts=row.attempts,
        runner=running,
        created=row.created_at,
        started=row.started_at,
        finished=row.finished_at,
        local=row.local,
        selector=row.selector,
        submission=row.submission,
        trace=row.trace,
        prompts=row.prompts,
        profile=row.profile,
        worker=row.worker,
        crashes=row.crashes,
        conditions=row.conditions,
        progress=row.progress,
        last_event=row.last_event,
    )
