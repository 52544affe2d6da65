"""Configurations: what jobs found, by id or digest, and which are recommended; they never change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from autokv.api.dependencies import DatabaseDep
from autokv.api.headers import MEDIA_TYPES, Accept, FormatQuery, IfNoneMatch, chosen, known
from autokv.api.paging import PageQuery, Text
from autokv.api.paging import Query as Parameters
from autokv.api.responses import UNCHANGED, Responses, problems
from autokv.api.views import configuration_view
from autokv.documents import Format, rendered
from autokv.errors import NotFoundError
from autokv.export import TARGETS, Device, export, target_named
from autokv.hardware import catalog
from autokv.models.facts import ModelFacts
from autokv.storage import Database, StoredConfiguration
from autokv.storage.configurations import Match
from autokv.wire import ConfigurationView, ExportView, Page, Recommendation

router = APIRouter(tags=["configurations"])
FOR_EVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
Key = Annotated[
    str,
    Path(
        pattern=r"^[0-9A-Za-z]{1,64}$",
        description="id, or how a digest begins (8 characters or more): the newest configuration that has it",
    ),
]
As = Annotated[FormatQuery, Query()]


class ConfigurationsQuery(PageQuery):
    """Which configurations."""

    job: str | None = Field(None, pattern=r"^[0-9A-Za-z]{1,64}$", description="id")
    role: str | None = Field(
        None, pattern=r"^[a-z_]{1,40}$", description="recommended, smallest, fastest, knee or front"
    )
    digest: str | None = Field(None, pattern=r"^[0-9A-Fa-f]{64}$")
    model: Text | None = Field(None, description="as a job named it, or its own name")


def documented(description: str, schema: dict[str, Any]) -> Responses:
    """The answer in both formats."""
    headers = {"ETag": {"schema": {"type": "string"}, "description": "differs between JSON and YAML"}}
    content = {media: {"schema": schema} for media in MEDIA_TYPES.values()}
    return {200: {"description": description, "headers": headers, "content": content}}


@router.get("/configurations", summary="List configurations", responses=problems())
def configurations(query: Annotated[ConfigurationsQuery, Query()], database: DatabaseDep) -> Page[ConfigurationView]:
    """The configurations of every job's last result, the newest first."""
    found, following = database.configurations.page(
        job=query.job,
        role=query.role,
        digest=query.digest,
        model=query.model,
        cursor=query.position,
        limit=query.limit,
    )
    return query.page(map(configuration_view, found), following)


@router.get(
    "/configurations/{key}",
    response_class=Response,
    summary="Show a configuration",
    responses=problems(404, 406)
    | UNCHANGED
    | documented("The configuration.", {"$ref": "#/components/schemas/ConfigurationView"}),
)
def show(
    key: Key, query: As, database: DatabaseDep, accept: Accept = None, if_none_match: IfNoneMatch = None
) -> Response:
    """A configuration with its job and its roles, as JSON or YAML."""
    form, found = chosen(query, accept), database.configurations.find(key)
    return _answer(found.id, configuration_view(found), form, if_none_match, cache=cache_of(key, found))


@router.get(
    "/configurations/{key}/document",
    response_class=Response,
    summary="Download a configuration",
    responses=problems(404, 406) | UNCHANGED | documented("The document.", {"type": "object"}),
)
def download(
    key: Key, query: As, database: DatabaseDep, accept: Accept = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The document alone, as JSON or YAML: the configuration, and where its figures come from."""
    form, found = chosen(query, accept), database.configurations.find(key)
    return document_answer(found, form, if_none_match, cache=cache_of(key, found))


class ExportQuery(Parameters):
    """For what engine."""

    target: Text = Field(description="engine or library", json_schema_extra={"enum": [*TARGETS]})
    device: str | None = Field(
        None,
        pattern=r"^(cpu|apple|sm_?[0-9]{2,3}|[0-9]{1,2}\.[0-9]|gfx[0-9a-f]{3,4})$",
        description="cpu, apple, sm89, gfx942",
    )
    backend: str | None = Field(None, pattern=r"^[0-9A-Za-z._]{1,40}$", description="attention backend of the engine")


@router.get("/configurations/{key}/export", summary="Export a configuration to an engine", responses=problems(404, 422))
def exported(key: Key, query: Annotated[ExportQuery, Query()], database: DatabaseDep) -> ExportView:
    """What an engine makes of a configuration, what is known to go wrong, and the files that set the engine up."""
    document = database.configurations.find(key).document
    model = document.model or {}
    found = export(
        target_named(query.target),
        document.config(),
        facts=ModelFacts.from_dict(model),
        model=model.get("source") or model.get("name"),
        device=None if query.device is None else Device.parse(query.device),
        backend=query.backend,
    )
    return ExportView.model_validate(found.to_dict())


def tag(configuration: str, form: Format) -> str:
    """The ETag of a configuration, which its id can be, because it never changes."""
    return f'"{configuration}"' if form == "json" else f'"{configuration}.{form}"'


def cache_of(key: str, found: StoredConfiguration) -> str:
    """What an id names stays for ever; a digest may find a newer configuration."""
    return FOR_EVER if key == found.id else ASK_AGAIN


def document_answer(found: StoredConfiguration, form: Format, if_none_match: str | None, *, cache: str) -> Response:
    """The document of a configuration, as a file."""
    headers = {
        "Content-Disposition": f'attachment; filename="{found.digest[:12]}.{form}"',
        "Content-Location": f"/v1/configurations/{found.id}/document",
    }
    return _answer(found.id, found.document, form, if_none_match, cache=cache, **headers)


def unchanged(configuration: str, form: Format, cache: str) -> Response:
    """The answer to a caller that has it."""
    return Response(status_code=304, headers=_headers(configuration, form, cache))


def _answer(
    configuration: str, body: object, form: Format, if_none_match: str | None, *, cache: str, **headers: str
) -> Response:
    if known(if_none_match, tag(configuration, form)):
        return unchanged(configuration, form, cache)
    return Response(
        rendered(body, form), 200, _headers(configuration, form, cache) | headers, media_type=MEDIA_TYPES[form]
    )


def _headers(configuration: str, form: Format, cache: str) -> dict[str, str]:
    return {"ETag": tag(configuration, form), "Cache-Control": cache, "Vary": "Accept"}


MAX_ITEMS = 50


class RecommendationsQuery(Parameters):
    """For what."""

    model: Text = Field(description="as jobs name it, or its own name")
    hardware: str | None = Field(
        None, min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="id or name of a profile, or fingerprint"
    )
    workload: Text | None = Field(None, description="id or name of a trace")
    limit: int = Field(10, ge=1, le=MAX_ITEMS, description="recommendations, at most")


@router.get("/recommendations", summary="Recommend configurations", responses=problems())
def recommendations(query: Annotated[RecommendationsQuery, Query()], database: DatabaseDep) -> Page[Recommendation]:
    """What finished jobs recommend for this model: first those on this device, of them first those for this workload.

    A configuration that was found for another model is never recommended: what it costs in quality is not known.
    """
    found = database.configurations.recommended(
        model=query.model,
        hardware=_devices(query.hardware, database),
        workload=[] if query.workload is None else [query.workload],
        limit=query.limit,
    )
    return Page(items=tuple(map(_told, found)))


def _devices(name: str | None, database: Database) -> Collection[str]:
    """Every name that the device of this name has."""
    if name is None:
        return ()
    sheet = catalog.sheets().get(name)
    if sheet is not None:
        return {name, sheet.name, *sheet.reported_names}
    try:
        profile = database.profiles.get(name)
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
        configuration=configuration_view(match.configuration),
        model=str((document.model or {}).get("name", "")),
        hardware=str((document.hardware or {}).get("name", "")),
        workload=None if workload is None else str(workload),
        matched=tuple(matched),
        reason=match.reason,
    )
