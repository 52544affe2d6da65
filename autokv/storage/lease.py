"""The lease of a job: who runs it now.

A job is run by at most one process. The process that takes it writes down an owner (a token of its own), its host and
its process id, and renews the lease, in the database's time, before it ends. Another process may take the job over
when the owner is gone: its process is dead and was on this host, or its lease has ended. A process that was only
asleep finds at its next write that the job is no longer its own. :mod:`autokv.storage.queue` hands jobs out.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from sqlalchemy import update
from sqlalchemy.orm import Session

from autokv.errors import LeaseLostError, NotFoundError
from autokv.storage.repository import now
from autokv.storage.tables import JobRow

STALE_SECONDS = 60.0
"""Lease of a row of an earlier version, which has no end of it."""
GONE = "the process that ran it is gone"


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
