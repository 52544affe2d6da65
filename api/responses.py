"""What the routes may answer, for OpenAPI: problems, files and headers."""

from __future__ import annotations

from typing import Any

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
