"""Workers: who is there to run jobs, and on what device."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Select, select, update

from autokv.errors import NotFoundError
from autokv.storage.devices import put
from autokv.storage.repository import Repository, now
from autokv.storage.service_tables import HardwareProfileRow, WorkerRow
from autokv.storage.tables import JobRow, new_id
from autokv.wire import WorkerState, WorkerView


class Worker(WorkerView):
    """A worker as it stands, ``gone`` where it has not been heard of in time, and what only its side is told.

    Times are UTC, from the database's clock.
    """

    process: int
    fingerprint: str
    """Of its measured hardware profile."""


class Workers(Repository):
    """The repository of workers. Rows stay when a worker has stopped: attempts name them."""

    def register(
        self,
        *,
        host: str,
        process: int,
        device: str,
        labels: Mapping[str, str],
        profile: Mapping[str, Any],
        versions: Mapping[str, str],
        seconds: float,
        state: WorkerState = "ready",
    ) -> str:
        """Add a worker that counts as gone after ``seconds`` without :meth:`beat`, and return its id.

        ``profile`` is its measured hardware profile with its fingerprint; it is stored where it is new.
        """
        worker = new_id()
        with self._writing() as session:
            time, (measured, _) = now(session), put(session, profile, profile["name"], "measured")
            session.add(
                WorkerRow(
                    id=worker,
                    host=host,
                    process=process,
                    device=device,
                    labels=dict(labels),
                    profile=measured.id,
                    versions=dict(versions),
                    state=state,
                    started_at=time,
                    seen_at=time,
                    until=time + timedelta(seconds=seconds),
                )
            )
        return worker

    def beat(self, worker: str, seconds: float) -> None:
        """Say that a worker is there, and will be heard of again within ``seconds``."""
        with self._writing() as session:
            time = now(session)
            values = {"seen_at": time, "until": time + timedelta(seconds=seconds)}
            session.execute(update(WorkerRow).where(WorkerRow.id == worker).values(values))

    def state(self, worker: str, state: Literal["draining", "stopped"]) -> None:
        """Say that a worker takes no more jobs, or that it has ended."""
        with self._writing() as session:
            values = {"state": state, "seen_at": now(session)}
            session.execute(update(WorkerRow).where(WorkerRow.id == worker).values(values))

    def list(self, alive_only: bool = False) -> tuple[Worker, ...]:
        """Every worker, or those that are ready or draining; the newest first."""
        with self._reading() as session:
            time, query = now(session), _query()
            if alive_only:
                query = query.where(WorkerRow.state != "stopped", WorkerRow.until >= time)
            query = query.order_by(WorkerRow.started_at.desc(), WorkerRow.id)
            return tuple(_worker(time, *row) for row in session.execute(query))

    def get(self, worker: str) -> Worker:
        """The worker of this id.

        Raises:
            NotFoundError: there is none.
        """
        with self._reading() as session:
            found = session.execute(_query().where(WorkerRow.id == worker)).first()
            if found is None:
                raise NotFoundError("there is no such worker", field=f"worker {worker}", remedy="see /v1/workers")
            return _worker(now(session), *found)


def _query() -> Select[Any]:
    running = (JobRow.state == "running", JobRow.worker == WorkerRow.id)
    runs = select(JobRow.id).where(*running).limit(1).scalar_subquery()
    return select(WorkerRow, HardwareProfileRow.name, HardwareProfileRow.fingerprint, runs).join(
        HardwareProfileRow, HardwareProfileRow.id == WorkerRow.profile
    )


def _worker(time: datetime, row: WorkerRow, name: str, fingerprint: str, job: str | None) -> Worker:
    gone = row.state != "stopped" and row.until < time
    found = {
        "host": row.host.partition(" pid:")[0],
        "hardware": row.profile,
        "hardware_name": name,
        "fingerprint": fingerprint,
        "state": "gone" if gone else row.state,
        "job": job,
        "started": row.started_at,
        "seen": row.seen_at,
    }
    return Worker.model_validate({**vars(row), **found})
