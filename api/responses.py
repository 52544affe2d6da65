"""What the routes answer, and how OpenAPI describes it: every problem in the project's one shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from starlette.types import Scope

from autokv.wire import Event, Problem, View

MEDIA_TYPE = "application/problem+json"
Responses = dict[int | str, dict[str, Any]]

_MEANINGS = {
    400: "The request cannot be read.",
    404: "Not found.",
    406: "None of the accepted media types is available.",
    409: "What is stored, or its state, forbids it; nothing was changed.",
    412: "It has changed since it was read; nothing was changed.",
    413: "Larger than a limit, which the problem names.",
    415: "The media type of the body is not supported.",
    422: "A parameter, a header or the body is not valid; the problem names the fields.",
    428: "A header that guards against lost updates is missing.",
    500: "The server failed; its log has the request's id.",
    503: "The database cannot be reached now; try again after `Retry-After` seconds.",
}
_ALWAYS = (400, 422, 500, 503)
_OF_BODIES = (413, 415)


UNCHANGED: Responses = {304: {"description": "Not modified: it matches `If-None-Match`."}}


def answer(view: View, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``view`` as JSON, written once: it was checked when it was made."""
    return Response(view.model_dump_json(), status, headers, "application/json")


def problems(*statuses: int, body: bool = False) -> Responses:
    """``responses=`` of a route: the problems of ``statuses`` and those of every route; ``body`` where it takes one.

    Further responses are merged with ``|``: ``problems(404) | {304: {"description": "Not changed."}}``.
    """
    known = sorted({*statuses, *_ALWAYS, *(_OF_BODIES if body else ())})
    return {status: _problem(status) for status in known}


def _problem(status: int) -> dict[str, Any]:
    documented: dict[str, Any] = {
        "description": _MEANINGS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == 503:
        documented["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return documented


def located(description: str) -> dict[str, Any]:
    """A response that says where the thing is."""
    return {
        "description": description,
        "headers": {"Location": {"schema": {"type": "string"}, "description": "path of the resource"}},
    }


def files(description: str, *media_types: str) -> dict[str, Any]:
    """A response that is a file of one of ``media_types``."""
    return {"description": description, "content": {media: {"schema": {"type": "string"}} for media in media_types}}


PREFIX = "/v1"


def template(scope: Scope) -> str | None:
    """``/v1/jobs/{job_id}``; ``None`` where no route fits the request."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return None
    # A route that a router brought may know its path without the prefix that it was included under.
    included = scope["path"].startswith(f"{PREFIX}/") and not path.startswith(f"{PREFIX}/")
    return f"{PREFIX}{path}" if included else str(path)


_REFERENCE = "#/components/schemas/{model}"
_REPLACED = ("HTTPValidationError", "ValidationError")
"""FastAPI's own shape of a 422, which this API never answers."""


def install(app: FastAPI) -> None:
    """Let ``app.openapi()`` describe problems and events as they are."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _REPLACED:
        schemas.pop(name, None)
    for model in (Problem, Event):
        schema = model.model_json_schema(mode="serialization", ref_template=_REFERENCE)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for media in _media(document):
        if "itemSchema" in media:
            # FastAPI says that the whole of a stream is one string.
            media.pop("schema", None)
    return document


def _media(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every body that is described, of every response."""
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                yield from response.get("content", {}).values()
