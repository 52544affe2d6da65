"""The lease of a job: who runs it now.

A job is run by at most one process. The process that claims it writes down an owner (a token of its own), its host and
its process id, and renews a heartbeat, in the database's time, every ``HEARTBEAT_SECONDS``. Another process may take
the job over when the owner is gone: its process is dead and was on this host, or its heartbeat is older than
``STALE_SECONDS``. A process that was only asleep finds at its next write that the job is no longer its own.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from autokv.errors import StorageError
from autokv.storage.columns import database_now
from autokv.storage.sessions import Sessions
from autokv.storage.tables import JobRow

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


@dataclass(frozen=True)
class Lease:
    """The right to run one job."""

    job_id: str
    owner: str
    attempt: int
    """1 for the first process that ran the job."""

    def require(self, session: Session) -> None:
        """Fence a write: in the same transaction, check that the job is still ours.

        Raises:
            StorageError: another process has taken the job over.
        """
        owner = session.scalar(select(JobRow.owner).where(JobRow.id == self.job_id).with_for_update())
        if owner != self.owner:
            raise StorageError(
                "another process has taken this job over",
                field=f"job {self.job_id}",
                remedy=f"follow it with `autokv jobs show {self.job_id}`",
            )


def runner(row: JobRow, now: datetime) -> str | None:
    """Who runs the job, for a person; ``None`` where nobody does, or whoever did is gone."""
    if row.owner is None or row.heartbeat_at is None or row.owner_process is None:
        return None
    age = (now - row.heartbeat_at).total_seconds()
    if age > STALE_SECONDS or (row.owner_host == this_host() and not _lives(row.owner_process)):
        return None
    host = (row.owner_host or "").partition(" pid:")[0]
    return f"process {row.owner_process} on {host}, last seen {max(age, 0):.0f} s ago"


def this_host() -> str:
    """The name of this machine; with the PID namespace on Linux, so that containers are not taken for one another."""
    namespace = Path("/proc/self/ns/pid")
    with suppress(OSError):
        return f"{platform.node()} {namespace.readlink()}"
    return platform.node()


@contextmanager
def held(writing: Sessions, job_id: str) -> Iterator[Lease]:
    """Claim the job, keep the heartbeat while the block runs, and let go at its end.

    A job that is still running when the block ends, however it ends, is marked interrupted.

    Raises:
        StorageError: the job runs elsewhere, or is done.
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
    row = session.get(JobRow, job_id, with_for_update=True)
    if row is None:
        raise StorageError("there is no such job", field=f"job {job_id}", remedy="see `autokv jobs list`")
    if row.state == "done":
        raise StorageError("is done", field=f"job {job_id}", remedy=f"see `autokv jobs show {job_id}`")
    running = runner(row, session.scalars(select(database_now())).one())
    if running is not None:
        raise StorageError(f"is running ({running})", field=f"job {job_id}", remedy="wait for it, or stop it")
    row.state, row.reason, row.stopped_by, row.finished_at = "running", None, None, None
    row.attempts += 1
    row.owner, row.owner_host, row.owner_process = secrets.token_hex(16), this_host(), os.getpid()
    row.heartbeat_at = database_now()
    if row.started_at is None:
        row.started_at = database_now()
    return Lease(job_id, row.owner, row.attempts)


def _keep(writing: Sessions, lease: Lease, stop: threading.Event) -> None:
    ours = (JobRow.id == lease.job_id, JobRow.owner == lease.owner)
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(StorageError), writing() as session:
            session.execute(update(JobRow).where(*ours).values(heartbeat_at=database_now()))


def _release(session: Session, lease: Lease) -> None:
    row = session.get(JobRow, lease.job_id, with_for_update=True)
    if row is None or row.owner != lease.owner:
        return
    row.owner = row.owner_host = row.owner_process = row.heartbeat_at = None
    if row.state == "running":
        row.state, row.reason = "interrupted", "stopped before it had finished"
        row.finished_at = database_now()


def _lives(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
