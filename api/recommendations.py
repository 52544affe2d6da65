"""What is recommended for a model, a device and a workload."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi import Query as InQuery
from pydantic import Field

from autokv.api.configurations import view
from autokv.api.dependencies import Stored
from autokv.api.paging import Query
from autokv.api.responses import problems
from autokv.errors import NotFoundError
from autokv.hardware import catalog
from autokv.storage import Database
from autokv.storage.configurations import Match
from autokv.wire import Page, Recommendation

router = APIRouter(tags=["configurations"])
MAX_ITEMS = 50


class RecommendationsQuery(Query):
    """For what."""

    model: str = Field(
        min_length=1, max_length=4096, pattern=r"^[^\x00]+$", description="as jobs name it, or its own name"
    )
    hardware: str | None = Field(
        None, min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="id or name of a profile, or fingerprint"
    )
    workload: str | None = Field(
        None, min_length=1, max_length=4096, pattern=r"^[^\x00]+$", description="id or name of a trace"
    )
    limit: int = Field(10, ge=1, le=MAX_ITEMS, description="recommendations, at most")


@router.get("/recommendations", summary="Recommend configurations", responses=problems())
def recommendations(query: Annotated[RecommendationsQuery, InQuery()], stored: Stored) -> Page[Recommendation]:
    """What finished jobs recommend for this model: first those on this device, of them first those for this workload.

    A configuration that was found for another model is never recommended: what it costs in quality is not known.
    """
    found = stored.configurations.recommended(
        model=query.model,
        hardware=_devices(query.hardware, stored),
        workload=[] if query.workload is None else [query.workload],
        limit=query.limit,
    )
    return Page(items=tuple(map(_told, found)))


def _devices(name: str | None, stored: Database) -> Collection[str]:
    """Every name that the device of this name has."""
    if name is None:
        return ()
    sheet = catalog.sheets().get(name)
    if sheet is not None:
        return {name, sheet.name, *sheet.reported_names}
    try:
        profile = stored.profiles.get(name)
    except NotFoundError:
        return {name}
    return {name, profile.name, profile.fingerprint}


def _told(match: Match) -> Recommendation:
    document = match.configuration.document
    matched: list[Literal["model", "hardware", "workload"]] = ["model"]
    if match.hardware:
        matched.append("hardware")
    if match.workload:
        matched.append("workload")
    workload = (document.workload or {}).get("trace")
    return Recommendation(
        configuration=view(match.configuration),
        model=str((document.model or {}).get("name", "")),
        hardware=str((document.hardware or {}).get("name", "")),
        workload=None if workload is None else str(workload),
        matched=tuple(matched),
        reason=match.reason,
    )
