"""Conditions of a job: what holds of it, why, and since when."""

from __future__ import annotations

from datetime import datetime

from autokv.storage.tables import JobRow


def put(row: JobRow, kind: str, status: bool, reason: str, message: str, time: datetime) -> None:
    """Say whether a condition holds; its time changes only with its status or its reason."""
    held = dict(row.conditions or {})
    before = held.get(kind)
    since = time.isoformat()
    if before is not None and (before["status"], before["reason"]) == (status, reason):
        since = before["time"]
    held[kind] = {"status": status, "reason": reason, "message": message, "time": since}
    row.conditions = held


def accepted(row: JobRow, time: datetime) -> None:
    put(row, "Accepted", True, "Stored", "the job is stored and will be run", time)
    waiting(row, "Queued", "waits for a worker", time)


def waiting(row: JobRow, reason: str, message: str, time: datetime) -> None:
    put(row, "Running", False, reason, message, time)
    put(row, "Finished", False, "NotFinished", "the job has not finished", time)


def running(row: JobRow, time: datetime) -> None:
    put(row, "Running", True, "Started", f"attempt {row.attempts} runs", time)


def finished(row: JobRow, reason: str, message: str, time: datetime) -> None:
    put(row, "Running", False, reason, message, time)
    put(row, "Finished", True, reason, message, time)
