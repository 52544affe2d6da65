"""Hardware profiles: the catalog's, those that workers measured, and those that were uploaded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from autokv.api.dependencies import Id, Stored
from autokv.api.paging import PageQuery
from autokv.api.responses import located, problems
from autokv.errors import ConflictError, TooLargeError
from autokv.hardware import HardwareProfile, catalog
from autokv.hardware.documents import MAX_PROFILE_BYTES, parse_profile
from autokv.storage import Database
from autokv.storage.paging import Cursor
from autokv.storage.profiles import StoredProfile
from autokv.wire import HardwareProfileView, Page

router = APIRouter(tags=["hardware profiles"])
MEDIA_TYPES = ("application/json", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_CATALOG = datetime.fromtimestamp(0, UTC)
"""Stands, in cursors, for when the catalog's profiles were created: before all others."""


@router.post(
    "/hardware-profiles",
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
async def upload(request: Request, stored: Stored) -> Response:
    """Store a profile as `autokv hardware probe --output` writes it, or a data sheet; JSON or YAML."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in MEDIA_TYPES:
        raise HTTPException(415, f"the body is {media[:100] or 'of no media type'}; send JSON or YAML")
    body = await _read(request)
    added, new = await run_in_threadpool(_keep, stored, body)
    headers = {"Location": f"/v1/hardware-profiles/{added.id}"}
    return Response(_view(added).model_dump_json(), 201 if new else 200, headers, "application/json")


@router.get("/hardware-profiles", summary="List hardware profiles", responses=problems())
def profiles(query: Annotated[PageQuery, Query()], stored: Stored) -> Page[HardwareProfileView]:
    """Measured and uploaded ones, the newest first; then the catalog's, by name."""
    position = query.position
    views: list[HardwareProfileView] = []
    if position is None or position[0] != _CATALOG:
        found, following = stored.profiles.page(position, query.limit)
        views = list(map(_view, found))
        if following is not None:
            return query.page(views, following)
        position = (_CATALOG, "")
    names = [name for name in catalog.sheets() if name > position[1]]
    shown = names[: query.limit - len(views)]
    last: Cursor = (_CATALOG, shown[-1] if shown else position[1]) if len(shown) < len(names) else None
    return query.page([*views, *map(_of_catalog, shown)], last)


@router.get("/hardware-profiles/{profile_id}", summary="Show a hardware profile", responses=problems(404))
def profile(profile_id: Id, stored: Stored) -> HardwareProfileView:
    """A profile by its id, or by a name of the catalog."""
    return _of_catalog(profile_id) if profile_id in catalog.sheets() else _view(stored.profiles.get(profile_id))


@router.delete(
    "/hardware-profiles/{profile_id}",
    status_code=204,
    summary="Delete a hardware profile",
    responses=problems(404, 409),
)
def delete(profile_id: Id, stored: Stored) -> None:
    """Delete a profile that no job and no worker uses."""
    if profile_id in catalog.sheets():
        raise ConflictError("is part of the catalog", field=f"profile {profile_id}", remedy="leave it")
    stored.profiles.delete(profile_id)


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


def _keep(stored: Database, body: bytes) -> tuple[StoredProfile, bool]:
    found = parse_profile(body, "body")
    return stored.profiles.add(found.to_dict(), found.name, "uploaded")


def _of_catalog(name: str) -> HardwareProfileView:
    sheet: HardwareProfile = catalog.sheets()[name].profile()
    return HardwareProfileView(
        id=name, name=sheet.name, source="catalog", fingerprint=sheet.fingerprint, profile=sheet.to_dict()
    )


def _view(profile: StoredProfile) -> HardwareProfileView:
    return HardwareProfileView(
        id=profile.id,
        name=profile.name,
        source=profile.source,
        fingerprint=profile.fingerprint,
        created=profile.created,
        profile=dict(profile.document),
    )
