"""Events: what happened to a job, in order and without gaps, for those who follow it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from autokv.storage.columns import fingerprint
from autokv.storage.repository import Repository
from autokv.storage.service_tables import EventRow
from autokv.storage.tables import JobRow
from autokv.wire import JobState


@dataclass(frozen=True)
class StoredEvent:
    """Something that happened to a job; ``number`` counts from 1."""

    number: int
    kind: str
    data: Mapping[str, Any]
    time: datetime


class Events(Repository):
    """The repository of events; they are appended by what they tell of."""

    def of(self, job_id: str, after: int = 0, limit: int = 500) -> list[StoredEvent]:
        """The events of a job that follow number ``after``, at most ``limit``; none where there is no such job."""
        query = (
            select(EventRow)
            .where(EventRow.job_id == job_id, EventRow.number > after)
            .order_by(EventRow.number)
            .limit(limit)
        )
        with self._reading() as session:
            return [StoredEvent(row.number, row.kind, row.data, row.created_at) for row in session.scalars(query)]

    def latest(self, job_ids: Iterable[str]) -> dict[str, tuple[int, JobState]]:
        """The number of the newest event and the state of each of these jobs that exists; one statement."""
        query = select(JobRow.id, JobRow.last_event, JobRow.state).where(JobRow.id.in_(list(job_ids)))
        with self._reading() as session:
            return {job_id: (number, state) for job_id, number, state in session.execute(query)}


def append(session: Session, row: JobRow, kind: str, data: Mapping[str, Any]) -> int:
    """Tell something of a job that is stored, in the transaction of what is told; the job's row must be locked.

    Returns the event's number.
    """
    row.last_event += 1
    session.add(EventRow(job_id=row.id, number=row.last_event, kind=kind, data=dict(data)))
    return row.last_event


def is_told(session: Session, row: JobRow, number: int, kind: str, data: Mapping[str, Any]) -> bool:
    """Whether event ``number`` of a job is this one."""
    event = session.get(EventRow, (row.id, number))
    return event is not None and event.kind == kind and fingerprint(event.data) == fingerprint(data)
