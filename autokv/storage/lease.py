"""The lease of a job: who runs it now.

A job is run by at most one process. The process that takes it writes down an owner (a token of its own), its host and
its process id, and renews the lease, in the database's time, before it ends. Another process may take the job over
when the owner is gone: its process is dead and was on this host, or its lease has ended. A process that was only
asleep finds at its next write that the job is no longer its own.

A job of the command line is held here by the command that made it; the service's are handed out by
:mod:`autokv.storage.queue`.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from sqlalchemy import update
from sqlalchemy.orm import Session

from autokv.errors import ConflictError, LeaseLostError, NotFoundError, StorageError
from autokv.storage.events import append
from autokv.storage.repository import Sessions, now
from autokv.storage.tables import JobRow

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""Lease of a command's own job."""


@dataclass(frozen=True)
class Lease:
    """The right to run one job."""

    job_id: str
    owner: str
    attempt: int
    """1 for the first process that ran the job."""

    def require(self, session: Session) -> JobRow:
        """Fence a write: in the same transaction, lock the job's row and check that the job is still ours.

        Raises:
            LeaseLostError: another process has taken the job over, or the job was cancelled, or it is gone.
        """
        row = session.get(JobRow, self.job_id, with_for_update=True)
        if row is None or row.owner != self.owner:
            cancelled = row is not None and row.state == "cancelled"
            raise LeaseLostError(
                "was cancelled" if cancelled else "another process has taken this job over",
                field=f"job {self.job_id}",
                remedy=f"follow it with `autokv jobs show {self.job_id}`",
            )
        return row


def locked(session: Session, job_id: str) -> JobRow:
    """The row of a job, which nobody else changes before this transaction ends.

    Raises:
        NotFoundError: there is no such job.
    """
    row = session.get(JobRow, job_id, with_for_update=True)
    if row is None:
        raise NotFoundError("there is no such job", field=f"job {job_id}", remedy="see `autokv jobs list`")
    return row


def runner(row: JobRow, time: datetime) -> str | None:
    """Who runs the job, for a person; ``None`` where nobody does, or whoever did is gone."""
    if row.owner is None or row.heartbeat_at is None or row.owner_process is None:
        return None
    # A row of an earlier version has no end of its lease.
    until = row.lease_until or row.heartbeat_at + timedelta(seconds=STALE_SECONDS)
    if time > until or (row.owner_host == this_host() and not lives(row.owner_process)):
        return None
    host = (row.owner_host or "").partition(" pid:")[0]
    age = max((time - row.heartbeat_at).total_seconds(), 0)
    return f"process {row.owner_process} on {host}, last seen {age:.0f} s ago"


def this_host() -> str:
    """The name of this machine; with the PID namespace on Linux, so that containers are not taken for one another."""
    namespace = Path("/proc/self/ns/pid")
    with suppress(OSError):
        return f"{platform.node()} {namespace.readlink()}"
    return platform.node()


def lives(process: int) -> bool:
    """Whether a process of this host still runs."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def renew(session: Session, lease: Lease, seconds: float) -> bool:
    """Let the lease end ``seconds`` from now; ``False`` where the job is not ours any more."""
    time = now(session)
    ours = (JobRow.id == lease.job_id, JobRow.owner == lease.owner)
    values = {"heartbeat_at": time, "lease_until": time + timedelta(seconds=seconds)}
    renewed = session.scalars(update(JobRow).where(*ours).values(values).returning(JobRow.id))
    return renewed.one_or_none() is not None


def let_go(row: JobRow) -> None:
    """Let nobody run the job; whoever did finds at its next write that it is not its own."""
    row.owner = row.owner_host = row.owner_process = row.heartbeat_at = row.lease_until = row.worker = None


@contextmanager
def held(writing: Sessions, job_id: str) -> Iterator[Lease]:
    """Claim a job of the command line, keep the heartbeat while the block runs, and let go at its end.

    A job that is still running when the block ends, however it ends, is marked interrupted.

    Raises:
        StorageError: the job runs elsewhere, is done, or is the service's.
    """
    with writing() as session:
        lease = _claim(session, job_id)
    stop = threading.Event()
    thread = threading.Thread(target=_keep, args=(writing, lease, stop), name=f"heartbeat-{job_id}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        # Failing to let go must not hide why the block ended; the dead process is noticed without it.
        with suppress(StorageError), writing() as session:
            _release(session, lease)


def _claim(session: Session, job_id: str) -> Lease:
    row, time = locked(session, job_id), now(session)
    if not row.local:
        raise ConflictError(
            "is run by a worker", field=f"job {job_id}", remedy=f"follow it with `autokv jobs watch {job_id}`"
        )
    if row.state == "done":
        raise ConflictError("is done", field=f"job {job_id}", remedy=f"see `autokv jobs show {job_id}`")
    running = runner(row, time)
    if running is not None:
        raise ConflictError(f"is running ({running})", field=f"job {job_id}", remedy="wait for it, or stop it")
    row.state, row.reason, row.stopped_by, row.finished_at = "running", None, None, None
    row.attempts += 1
    row.owner, row.owner_host, row.owner_process = secrets.token_hex(16), this_host(), os.getpid()
    row.heartbeat_at, row.lease_until = time, time + timedelta(seconds=STALE_SECONDS)
    row.started_at = row.started_at or time
    append(session, row, "started", {"attempt": row.attempts, "worker": None})
    return Lease(job_id, row.owner, row.attempts)


def _keep(writing: Sessions, lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(StorageError), writing() as session:
            renew(session, lease, STALE_SECONDS)


def _release(session: Session, lease: Lease) -> None:
    row = session.get(JobRow, lease.job_id, with_for_update=True)
    if row is None or row.owner != lease.owner:
        return
    let_go(row)
    if row.state == "running":
        row.state, row.reason = "interrupted", "stopped before it had finished"
        row.finished_at = now(session)
        append(session, row, "released", {"attempt": row.attempts, "reason": row.reason})
