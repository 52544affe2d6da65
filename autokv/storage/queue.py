"""The queue: jobs from their submission to their end, the service's and the command line's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autokv.errors import ConflictError, KeyReusedError
from autokv.storage import attempts, retention
from autokv.storage.columns import fingerprint
from autokv.storage.events import append, is_told
from autokv.storage.jobs import Facts, Job, as_job, job_of, job_query, model_key
from autokv.storage.lease import GONE, Lease, locked, renew
from autokv.storage.repository import Repository, now
from autokv.storage.service_tables import AttemptRow, IdempotencyKeyRow
from autokv.storage.tables import JobRow, new_id
from autokv.tuning.request import TuningRequest
from autokv.wire import AttemptView, Returned

WAITING = (JobRow.state == "queued", JobRow.local.is_(False))
"""For any worker; what is local waits for its command."""
_SELECTORS = select(JobRow.selector).where(*WAITING).distinct()
_OLDEST = (
    job_query()
    .where(*WAITING, JobRow.selector.in_(bindparam("fitting", expanding=True)))
    .order_by(JobRow.created_at, JobRow.id)
    .limit(1)
    .with_for_update(skip_locked=True, of=JobRow)
)


@dataclass(frozen=True)
class Claim:
    """A job to run, and the right to."""

    lease: Lease
    job: Job


@dataclass(frozen=True)
class Look:
    """A job, and what is known of it besides."""

    job: Job
    attempts: tuple[AttemptView, ...]
    place: tuple[int, int] | None
    """Where it stands in the queue, from 1, and how many wait for the same workers."""


class Queue(Repository):
    """Jobs that wait for workers, the oldest first, and those that workers run."""

    def submit(
        self,
        request: TuningRequest,
        *,
        submission: Facts | None = None,
        selector: str | None = None,
        trace: str | None = None,
        prompts: str | None = None,
        profile: str | None = None,
        key: str | None = None,
    ) -> tuple[Job, bool]:
        """Store a job for the workers that ``selector`` fits, or without one for the command that submits it and will
        :meth:`take` it; durable when this returns. ``submission`` is what was sent over HTTP.

        The second value is ``False`` where an equal submission came with ``key`` before: that one's job is returned.

        Raises:
            KeyReusedError: another submission came with ``key`` before.
            ConflictError: an upload or a hardware profile that it refers to is gone.
        """
        asked = fingerprint(submission)
        with self._writing() as session:
            before = _known(session, key, asked)
            if before is not None:
                return before, False
            row = JobRow(
                id=new_id(),
                request=request.model_dump(mode="json"),
                versions={},
                local=selector is None,
                selector=selector,
                submission=submission,
                trace=trace,
                prompts=prompts,
                profile=profile,
                attempts=0,
                last_event=0,
                created_at=now(session),
            )
            try:
                with session.begin_nested():
                    session.add(row)
                    attempts.enqueue(session, row, "submitted", row.created_at)
                    if key is not None:
                        session.add(IdempotencyKeyRow(key=key, fingerprint=asked, job_id=row.id))
            except IntegrityError:
                before = _known(session, key, asked)
                if before is None:
                    raise
                return before, False
            return as_job(row, None, 0, row.created_at), True

    def claim(self, worker: str, fits: Callable[[str], bool], lease_seconds: float) -> Claim | None:
        """Take the oldest job whose selector ``fits`` for a registered worker; ``None`` where there is none.

        The lease ends after ``lease_seconds`` unless it is renewed by :meth:`heartbeat`.
        """
        with self._writing() as session:
            selectors = session.scalars(_SELECTORS).all()
            fitting = [selector for selector in selectors if selector is not None and fits(selector)]
            found = session.execute(_OLDEST, {"fitting": fitting}).first() if fitting else None
            if found is None:
                return None
            row, model, trials, time = found
            lease = attempts.begin(session, row, worker, trials, lease_seconds, time)
            return Claim(lease, as_job(row, model, trials, time))

    def take(self, worker: str, job_id: str, lease_seconds: float) -> Claim:
        """Give a command its own job, as :meth:`claim` does: one that waits, has ended, or was left by a dead process.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: it is the service's, is done, or runs.
        """
        with self._writing() as session:
            row, time = locked(session, job_id), now(session)
            job = job_of(session, job_id)
            job.check_free()
            if row.state == "running":
                attempts.give_back(session, row, "lost", GONE, time)
            if row.state != "queued":
                attempts.enqueue(session, row, "retried", time)
            lease = attempts.begin(session, row, worker, job.trials, lease_seconds, time)
            return Claim(lease, job_of(session, job_id))

    def heartbeat(self, lease: Lease, lease_seconds: float) -> bool:
        """Renew a lease; ``False`` where the job is not ours any more."""
        with self._writing() as session:
            return renew(session, lease, lease_seconds)

    def progress(self, lease: Lease, progress: Mapping[str, Any]) -> None:
        """Say where the job stands (fields of ``wire.Progress``).

        This and what follows, up to :meth:`fail`, is tried again while the database cannot be reached, for a while.

        Raises:
            LeaseLostError: the job is not ours any more.
        """

        def keep(row: JobRow) -> None:
            row.progress = dict(progress)

        self._tell(lease, "progress", progress, keep)

    def message(self, lease: Lease, text: str) -> None:
        """Tell those who follow the job a line.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        self._tell(lease, "message", {"text": text})

    def describe(
        self,
        lease: Lease,
        *,
        model: Facts,
        hardware: Facts,
        workload: Facts,
        versions: Mapping[str, str],
        request: TuningRequest | None = None,
    ) -> None:
        """Store what the job runs on and with, and the request as it was decided there; what an earlier attempt stored
        stays.

        Raises:
            LeaseLostError: the job is not ours any more.
        """

        def describe(session: Session) -> None:
            row = lease.require(session)
            if row.model is not None:
                return
            row.model, row.hardware = model_key(session, model), dict(hardware)
            row.workload, row.versions = dict(workload), dict(versions)
            if request is not None:
                row.request = request.model_dump(mode="json")

        self._persist(describe)

    def release(self, lease: Lease, reason: str) -> None:
        """Give the job back to the queue: its worker stops, and nothing is wrong with the job.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        self._give_back(lease, "released", reason)

    def crashed(self, lease: Lease, reason: str) -> None:
        """The process of the attempt died; the job is tried again, but fails after the third in a row.

        Raises:
            LeaseLostError: the job is not ours any more.
        """
        self._give_back(lease, "crashed", reason)

    def fail(self, lease: Lease, reason: str) -> None:
        """End the job: something is wrong with it that another attempt cannot mend.

        Raises:
            LeaseLostError: the job is not ours any more.
        """

        def fail(session: Session) -> None:
            if attempts.outcome_of(session, lease) != "failed":
                attempts.finish(session, lease.require(session), "failed", reason, now(session))

        self._persist(fail)

    def reap(self) -> tuple[str, ...]:
        """Take from workers that are gone what they ran; returns the ids of those jobs."""
        return retention.reap(self._reading, self._writing)

    def cancel(self, job_id: str, reason: str) -> bool:
        """End a job that waits or runs, at once; ``False`` where it was cancelled before.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: it has ended otherwise.
        """
        with self._writing() as session:
            row = locked(session, job_id)
            if row.state == "cancelled":
                return False
            if row.state in {"done", "failed"}:
                raise ConflictError(
                    f"has ended ({row.state})", field=f"job {job_id}", remedy="there is nothing to stop"
                )
            attempts.finish(session, row, "cancelled", reason, now(session))
            return True

    def retry(self, job_id: str) -> bool:
        """Queue a job again that failed or was cancelled; its trials stay. ``False`` where it waits or runs already.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: it is done, or is a command's own.
        """
        with self._writing() as session:
            row = _ours(session, job_id, "retried", f"go on with `autokv tune --resume {job_id}`")
            if row.state in {"queued", "running"}:
                return False
            if row.state == "done":
                raise ConflictError("is done", field=f"job {job_id}", remedy="submit a new job")
            attempts.enqueue(session, row, "retried", now(session))
            return True

    def delete(self, job_id: str) -> None:
        """Delete a finished job with everything that belongs to it.

        Raises:
            NotFoundError: there is no such job.
            ConflictError: it has not finished, is a command's own, or an alias stands or stood for a configuration of
                it.
        """
        with self._writing() as session:
            row = _ours(session, job_id, "deleted", "delete what the command line made with its database")
            if row.state in {"queued", "running"}:
                raise ConflictError(f"is {row.state}", field=f"job {job_id}", remedy="cancel it first")
            retention.remove(session, row)

    def expire(self, days: float) -> tuple[str, ...]:
        """Delete the service's jobs that finished more than ``days`` ago, but for those that aliases need, and
        return their ids; with them go workers that were not heard of since then."""
        return retention.expire(self._reading, self._writing, days)

    def look(self, job_id: str) -> Look:
        """A job with its attempts and its place in the queue, all of one moment.

        Raises:
            NotFoundError: there is no such job.
        """
        with self._reading() as session:
            job = job_of(session, job_id)
            query = select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)
            tried = session.scalars(query) if job.attempts else ()
            return Look(job, tuple(map(AttemptView.model_validate, tried)), _place(session, job))

    def waiting(self) -> dict[str, int]:
        """How many jobs wait, by selector."""
        query = select(JobRow.selector, func.count()).where(*WAITING).group_by(JobRow.selector)
        with self._reading() as session:
            return {selector or "": count for selector, count in session.execute(query)}

    def _give_back(self, lease: Lease, outcome: Returned, reason: str) -> None:
        def give_back(session: Session) -> None:
            if attempts.outcome_of(session, lease) != outcome:
                attempts.give_back(session, lease.require(session), outcome, reason, now(session))

        self._persist(give_back)

    def _tell(
        self, lease: Lease, kind: str, data: Mapping[str, Any], change: Callable[[JobRow], None] = lambda row: None
    ) -> None:
        number = None

        def tell(session: Session) -> None:
            nonlocal number
            row = lease.require(session)
            if number is not None and is_told(session, row, number, kind, data):
                return
            change(row)
            number = append(session, row, kind, data)

        self._persist(tell)


def _place(session: Session, job: Job) -> tuple[int, int] | None:
    if job.state != "queued":
        return None
    ahead = tuple_(JobRow.created_at, JobRow.id) <= (job.created, job.id)
    query = select(func.count().filter(ahead), func.count()).where(*WAITING, JobRow.selector == job.selector)
    position, length = session.execute(query).one()
    return (position, length) if position else None


def _known(session: Session, key: str | None, asked: str) -> Job | None:
    row = None if key is None else session.get(IdempotencyKeyRow, key)
    if row is None:
        return None
    if row.fingerprint != asked:
        raise KeyReusedError(
            f"{key!r} came with another request before", field="Idempotency-Key", remedy="use a new key for it"
        )
    return job_of(session, row.job_id)


def _ours(session: Session, job_id: str, what: str, remedy: str) -> JobRow:
    row = locked(session, job_id)
    if row.local:
        raise ConflictError(f"is the command line's and cannot be {what} here", field=f"job {job_id}", remedy=remedy)
    return row
