"""What jobs run on: hardware profiles, models and workers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from autokv import settings
from autokv.api.dependencies import DatabaseDep, Id
from autokv.api.headers import check_media_type
from autokv.api.paging import PageQuery
from autokv.api.responses import answer, located, problems
from autokv.errors import ConflictError, TooLargeError
from autokv.hardware import catalog
from autokv.hardware.documents import MAX_PROFILE_BYTES, parse_profile
from autokv.models.offered import offered
from autokv.storage import Database
from autokv.storage.repository import Cursor
from autokv.wire import HardwareProfileView, ModelView, Page, WorkerView

router = APIRouter()
MEDIA_TYPES = ("application/json", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_CATALOG = datetime.fromtimestamp(0, UTC)
"""Stands, in cursors, for when the catalog's profiles were created: before all others."""


@router.post(
    "/hardware-profiles",
    tags=["hardware profiles"],
    status_code=201,
    response_model=HardwareProfileView,
    summary="Upload a hardware profile",
    responses=problems(body=True)
    | {200: {**located("The same one is there already."), "model": HardwareProfileView}, 201: located("Stored.")},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {media: {"schema": {"type": "object"}} for media in MEDIA_TYPES[:2]},
        }
    },
)
async def upload(request: Request, database: DatabaseDep) -> Response:
    """Store a profile as `autokv hardware probe --output` writes it, or a data sheet; JSON or YAML."""
    check_media_type(request.headers.get("content-type", ""), MEDIA_TYPES, "JSON or YAML")
    body = await _read(request)
    added, new = await run_in_threadpool(_keep, database, body)
    headers = {"Location": f"/v1/hardware-profiles/{added.id}"}
    return answer(added, 201 if new else 200, headers)


@router.get("/hardware-profiles", tags=["hardware profiles"], summary="List hardware profiles", responses=problems())
def profiles(query: Annotated[PageQuery, Query()], database: DatabaseDep) -> Page[HardwareProfileView]:
    """Measured and uploaded ones, the newest first; then the catalog's, by name."""
    position = query.position
    views: list[HardwareProfileView] = []
    if position is None or position[0] != _CATALOG:
        found, following = database.profiles.page(position, query.limit)
        views = list(found)
        if following is not None:
            return query.page(views, following)
        position = (_CATALOG, "")
    names = [name for name in catalog.sheets() if name > position[1]]
    shown = names[: query.limit - len(views)]
    last: Cursor = (_CATALOG, shown[-1] if shown else position[1]) if len(shown) < len(names) else None
    return query.page([*views, *map(_of_catalog, shown)], last)


@router.get(
    "/hardware-profiles/{profile_id}",
    tags=["hardware profiles"],
    summary="Show a hardware profile",
    responses=problems(404),
)
def profile(profile_id: Id, database: DatabaseDep) -> HardwareProfileView:
    """A profile by its id, or by a name of the catalog."""
    return _of_catalog(profile_id) if profile_id in catalog.sheets() else database.profiles.get(profile_id)


@router.delete(
    "/hardware-profiles/{profile_id}",
    tags=["hardware profiles"],
    status_code=204,
    summary="Delete a hardware profile",
    responses=problems(404, 409),
)
def delete(profile_id: Id, database: DatabaseDep) -> None:
    """Delete a profile that no job and no worker uses."""
    if profile_id in catalog.sheets():
        raise ConflictError("is part of the catalog", field=f"profile {profile_id}", remedy="leave it")
    database.profiles.delete(profile_id)


async def _read(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_PROFILE_BYTES:
                raise TooLargeError(f"the body is larger than {MAX_PROFILE_BYTES} bytes", remedy="is it a profile?")
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    return bytes(body)


def _keep(database: Database, body: bytes) -> tuple[HardwareProfileView, bool]:
    found = parse_profile(body, "body")
    return database.profiles.add(found.to_dict(), found.name, "uploaded")


def _of_catalog(name: str) -> HardwareProfileView:
    sheet = catalog.sheets()[name].profile()
    return HardwareProfileView(
        id=name, name=sheet.name, source="catalog", fingerprint=sheet.fingerprint, profile=sheet.to_dict()
    )


class ModelsQuery(PageQuery):
    """Which models; they come in the order of their names."""


@router.get("/models", tags=["models"], summary="List models", responses=problems())
def models(query: Annotated[ModelsQuery, Query()]) -> Page[ModelView]:
    """The models of the allowed folders, of the cache, and of the hub's local cache, by name.

    A job may name a Hugging Face id that is not here, too: its worker downloads it, unless it is set to stay offline.
    """
    after = query.after(str) or ""
    found = [model for model in offered(settings.current()) if model.name > after]
    shown = found[: query.limit]
    following = [shown[-1].name] if len(found) > query.limit else None
    return Page(items=tuple(map(ModelView.model_validate, shown)), next=query.encoded(following))


class WorkersQuery(PageQuery):
    """Which workers."""

    all: bool = Field(False, description="also workers that have stopped or are lost")


@router.get("/workers", tags=["workers"], summary="List workers", responses=problems())
def workers(query: Annotated[WorkersQuery, Query()], database: DatabaseDep) -> Page[WorkerView]:
    """The workers that are alive, and what they run; the newest first."""
    found = sorted(
        database.workers.list(alive_only=not query.all), key=lambda worker: (worker.started, worker.id), reverse=True
    )
    position = query.position
    if position is not None:
        found = [worker for worker in found if (worker.started, worker.id) < position]
    shown = found[: query.limit]
    following = (shown[-1].started, shown[-1].id) if len(found) > query.limit else None
    return query.page(map(WorkerView.model_validate, shown), following)


@router.get("/workers/{worker_id}", tags=["workers"], summary="Show a worker", responses=problems(404))
def worker(worker_id: Id, database: DatabaseDep) -> WorkerView:
    """A worker, also one that has stopped."""
    return WorkerView.model_validate(database.workers.get(worker_id))
