"""The OpenAPI document: every problem in the project's one shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from autokv.wire import Event, Problem

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
