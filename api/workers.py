"""Workers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from autokv.api.dependencies import Id, Stored
from autokv.api.paging import PageQuery
from autokv.api.responses import problems
from autokv.storage.workers import Worker
from autokv.wire import Page, WorkerView

router = APIRouter(tags=["workers"])


class WorkersQuery(PageQuery):
    """Which workers."""

    all: bool = Field(False, description="also workers that have stopped or are lost")


@router.get("/workers", summary="List workers", responses=problems())
def workers(query: Annotated[WorkersQuery, Query()], stored: Stored) -> Page[WorkerView]:
    """The workers that are alive, and what they run; the newest first."""
    found = sorted(
        stored.workers.list(alive_only=not query.all), key=lambda worker: (worker.started, worker.id), reverse=True
    )
    position = query.position
    if position is not None:
        found = [worker for worker in found if (worker.started, worker.id) < position]
    shown = found[: query.limit]
    following = (shown[-1].started, shown[-1].id) if len(found) > query.limit else None
    return query.page(map(_view, shown), following)


@router.get("/workers/{worker_id}", summary="Show a worker", responses=problems(404))
def worker(worker_id: Id, stored: Stored) -> WorkerView:
    """A worker, also one that has stopped."""
    return _view(stored.workers.get(worker_id))


def _view(worker: Worker) -> WorkerView:
    return WorkerView(
        id=worker.id,
        host=worker.host,
        device=worker.device,
        labels=dict(worker.labels),
        state=worker.state,
        hardware=worker.profile,
        hardware_name=worker.profile_name,
        job=worker.job,
        versions=dict(worker.versions),
        started=worker.started,
        seen=worker.seen,
    )
