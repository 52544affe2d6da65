"""Jobs and configurations as they are told: over HTTP, and by the commands that read a database themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime

from autokv.jobs.selector import Selector
from autokv.storage import Database, Job, StoredConfiguration
from autokv.storage.workers import Worker
from autokv.wire import AttemptView, Condition, ConfigurationView, JobView, MatchingWorkers, QueuePlace

FLEET_SECONDS = 1.0
_ORDER = ("Accepted", "WorkerAvailable", "Running", "Finished")


class Fleet:
    """The workers, read from the database at most once in ``FLEET_SECONDS``: every job that is shown asks for them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._workers: tuple[Worker, ...] = ()
        self._until = 0.0

    def workers(self) -> tuple[Worker, ...]:
        """Every worker, gone or not."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._workers = self._database.workers.list()
                self._until = time.monotonic() + FLEET_SECONDS
            return self._workers

    def matching(self, selector: Selector) -> tuple[Worker, ...]:
        """The workers that ``selector`` fits, gone or not."""
        return tuple(one for one in self.workers() if selector.fits(one.fingerprint, one.hardware_name, one.labels))

    def told(self, selector: Selector) -> MatchingWorkers:
        """Who can run what ``selector`` asks for."""
        return _told(selector, self.matching(selector))

    def condition(self, job: Job) -> Condition | None:
        """Whether a worker is there that could run ``job``; ``None`` for a job of the command line."""
        if job.selector is None:
            return None
        selector = Selector.parse(job.selector)
        matching = self.matching(selector)
        told = _told(selector, matching)
        return Condition(
            type="WorkerAvailable",
            status=told.ready > 0,
            reason="Matched" if told.ready else "NoMatchingWorker",
            message=told.message,
            time=_since(matching, job.created),
        )


def _told(selector: Selector, matching: Sequence[Worker]) -> MatchingWorkers:
    ready = sum(worker.state == "ready" for worker in matching)
    if ready:
        return MatchingWorkers(ready=ready, message=f"{ready} worker{'s' if ready > 1 else ''} can run it")
    return MatchingWorkers(ready=0, message=f"{_wanted(selector)} is alive; start one with `autokv worker`")


def _since(matching: Sequence[Worker], created: datetime) -> datetime:
    """When the first of those who are ready came, or the last was seen; not before the job was there."""
    ready = [worker.started for worker in matching if worker.state == "ready"]
    seen = [worker.seen for worker in matching]
    return max(created, min(ready) if ready else max(seen, default=created))


def job_view(
    job: Job,
    fleet: Fleet,
    *,
    attempts: Sequence[AttemptView] = (),
    place: tuple[int, int] | None = None,
    recommended: str | None = None,
) -> JobView:
    """A job as it stands; a list leaves out what costs a query for each job."""
    return JobView.model_validate(
        {
            **vars(job),
            "request": job.request.model_dump(mode="json"),
            "conditions": _conditions(job, fleet),
            "queue": None if place is None else QueuePlace(position=place[0], length=place[1]),
            "attempts": attempts,
            "recommended": recommended,
            "model_facts": job.model,
            "hardware_facts": job.hardware,
            "workload_facts": job.workload,
        }
    )


def look(job_id: str, database: Database, fleet: Fleet) -> tuple[Job, JobView]:
    """One job, with everything that is told of it.

    Raises:
        NotFoundError: there is no such job.
    """
    found = database.queue.look(job_id)
    result = database.summaries.result_of(job_id) if found.job.state == "done" else None
    recommended = None if result is None else result[1]
    return found.job, job_view(found.job, fleet, attempts=found.attempts, place=found.place, recommended=recommended)


def configuration_view(found: StoredConfiguration) -> ConfigurationView:
    """A configuration; its id can be its ETag, because it never changes."""
    return ConfigurationView(
        id=found.id,
        digest=found.digest,
        etag=f'"{found.id}"',
        job=found.job_id,
        roles=found.roles,
        created=found.created,
        document=found.document.model_dump(mode="json"),
    )


def _conditions(job: Job, fleet: Fleet) -> tuple[Condition, ...]:
    found = {
        kind: Condition.model_validate({"type": kind, **stored}) for kind, stored in (job.conditions or {}).items()
    }
    if job.state in {"queued", "running"}:
        available = fleet.condition(job)
        if available is not None:
            found["WorkerAvailable"] = available
    return tuple(found[kind] for kind in _ORDER if kind in found)


def _wanted(selector: Selector) -> str:
    device = "" if selector.device is None else f" on {' or '.join(selector.device.names)}"
    labels = ", ".join(f"{name}={value}" for name, value in sorted(selector.labels.items()))
    return f"no worker{device}{' with ' + labels if labels else ''}"
