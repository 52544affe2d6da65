"""Jobs: one per tuning run, of the command line (``local``) or of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from autokv.errors import ConflictError, NotFoundError
from autokv.storage.columns import database_now, fingerprint
from autokv.storage.lease import GONE, runner
from autokv.storage.repository import Cursor, Repository, newest_first, only_match
from autokv.storage.tables import JobRow, ModelRow
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
    """Run by the command that submitted it; no other worker takes it."""
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

    def check_free(self) -> None:
        """Check that a command may run it now.

        Raises:
            ConflictError: it is the service's, is done, or runs.
        """
        if not self.local:
            what, remedy = "is run by a worker", f"follow it with `autokv jobs watch {self.id}`"
        elif self.state == "done":
            what, remedy = "is done", f"see `autokv jobs show {self.id}`"
        elif self.runner is not None:
            what, remedy = f"is running ({self.runner})", "wait for it, or stop it"
        else:
            return
        raise ConflictError(what, field=f"job {self.id}", remedy=remedy)


class Jobs(Repository):
    """The repository of jobs; :mod:`autokv.storage.queue` changes them."""

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
            query = job_query().order_by(JobRow.created_at.desc(), JobRow.id)
            return tuple(as_job(*row) for row in session.execute(query))

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
        with self._reading() as session:
            rows, following = newest_first(session, query, (JobRow.created_at, JobRow.id), cursor, limit)
            return tuple(as_job(*row, facts=False) for row in rows), following


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


def as_job(row: JobRow, model: Facts | None, trials: int, time: datetime, *, facts: bool = True) -> Job:
    """A row as what it means at ``time``."""
    running = runner(row, time)
    died = row.local and row.state == "running" and running is None
    found: dict[str, Any] = {
        "state": "interrupted" if died else row.state,
        "request": TuningRequest.model_validate(row.request),
        "model": model,
        "hardware": row.hardware if facts else None,
        "workload": row.workload if facts else None,
        "trials": trials,
        "reason": GONE if died else row.reason,
        "runner": running,
        "created": row.created_at,
        "started": row.started_at,
        "finished": row.finished_at,
    }
    return Job(**found, **{one.name: getattr(row, one.name) for one in fields(Job) if one.name not in found})
