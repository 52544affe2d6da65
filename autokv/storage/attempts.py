"""Attempts: how a job goes from one state to the next, and its conditions: what holds of it, why, and since when.

enqueue ──► queued ──begin──► running ──finish──► done | failed | cancelled
               ▲                 │
               └──── give_back ◄─┘    (a third attempt in a row that crashed, or whose worker was lost, without a
                                       finished trial ends in failed)

A job of the command line that is given back is interrupted: it waits for that command, which enqueues it again. No
other module sets the state of a job. Every function here works in its caller's transaction, which has locked the job's
row, and takes the database's time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from autokv.storage.events import append
from autokv.storage.lease import Lease, let_go, this_host
from autokv.storage.service_tables import AttemptRow
from autokv.storage.tables import JobRow
from autokv.storage.trials import count_ran
from autokv.wire import FinalState, Outcome, Returned

MAX_CRASHES = 3
"""Attempts in a row that may crash, or lose their worker, without a finished trial; the last of them fails the job."""

_REASONS = {"released": "Released", "crashed": "Crashed", "lost": "WorkerLost"}


def enqueue(session: Session, row: JobRow, reason: str, now: datetime) -> None:
    """Let a job wait that is new, or that has ended and is to be run again."""
    row.state, row.crashes = "queued", 0
    row.reason = row.stopped_by = row.finished_at = None
    _tell(row, "Accepted", True, "Stored", "the job is stored and will be run", now)
    _tell_waiting(row, "Queued", "waits for a worker", now)
    # Its event refers to it.
    session.flush()
    append(session, row, "queued", {"reason": reason})


def begin(session: Session, row: JobRow, worker: str, trials: int, seconds: float, now: datetime) -> Lease:
    """Give a queued job to this process, for ``seconds`` from ``now``."""
    row.state, row.worker = "running", worker
    row.attempts += 1
    row.owner, row.owner_host, row.owner_process = secrets.token_hex(16), this_host(), os.getpid()
    row.heartbeat_at, row.lease_until = now, now + timedelta(seconds=seconds)
    row.started_at = row.started_at or now
    _tell(row, "Running", True, "Started", f"attempt {row.attempts} runs", now)
    session.add(AttemptRow(job_id=row.id, number=row.attempts, worker=worker, trials=trials, started=now))
    append(session, row, "started", {"attempt": row.attempts, "worker": worker})
    return Lease(row.id, row.owner, row.attempts)


def give_back(session: Session, row: JobRow, outcome: Returned, reason: str, now: datetime) -> None:
    """Let a running job wait again, or fail it where it crashed too often."""
    _end(session, row, outcome, reason, now)
    append(session, row, outcome, {"attempt": row.attempts, "reason": reason})
    if row.crashes >= MAX_CRASHES:
        text = f"{row.crashes} attempts in a row ended without a finished trial; the last one: {reason}"
        _close(session, row, "failed", text, now, {})
        return
    if row.local:
        row.state, row.reason, row.finished_at = "interrupted", reason or None, now
    else:
        row.state = "queued"
    _tell_waiting(row, _REASONS[outcome], reason, now)


def finish(
    session: Session, row: JobRow, state: FinalState, reason: str, now: datetime, told: Mapping[str, Any] | None = None
) -> None:
    """End a job, running or queued; ``told`` is what its event says beside the reason."""
    if row.state == "running":
        _end(session, row, state, reason, now)
    _close(session, row, state, reason, now, told or {})


def outcome_of(session: Session, lease: Lease) -> Outcome | None:
    """How the lease's attempt ended; ``None`` where it has not."""
    keys = (AttemptRow.job_id == lease.job_id, AttemptRow.number == lease.attempt)
    return session.scalars(select(AttemptRow.outcome).where(*keys)).one_or_none()


def _end(session: Session, row: JobRow, outcome: Outcome, reason: str, now: datetime) -> None:
    let_go(row)
    attempt = session.get(AttemptRow, (row.id, row.attempts))
    if attempt is None:
        return
    attempt.outcome, attempt.reason, attempt.ended = outcome, reason, now
    if (session.scalar(count_ran(row.id)) or 0) > attempt.trials:
        row.crashes = 0
    elif outcome in {"crashed", "lost"}:
        row.crashes += 1


def _close(
    session: Session, row: JobRow, state: FinalState, reason: str, now: datetime, told: Mapping[str, Any]
) -> None:
    row.state, row.reason, row.finished_at = state, reason or None, now
    _tell(row, "Running", False, state.capitalize(), reason, now)
    _tell(row, "Finished", True, state.capitalize(), reason, now)
    append(session, row, state, {**told, "reason": reason})


def _tell(row: JobRow, kind: str, status: bool, reason: str, message: str, time: datetime) -> None:
    """Say whether a condition holds; its time changes only with its status or its reason."""
    held = dict(row.conditions or {})
    before = held.get(kind)
    since = time.isoformat()
    if before is not None and (before["status"], before["reason"]) == (status, reason):
        since = before["time"]
    held[kind] = {"status": status, "reason": reason, "message": message, "time": since}
    row.conditions = held


def _tell_waiting(row: JobRow, reason: str, message: str, time: datetime) -> None:
    _tell(row, "Running", False, reason, message, time)
    _tell(row, "Finished", False, "NotFinished", "the job has not finished", time)
