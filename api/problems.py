"""Every error as problem+json (RFC 9457), in one shape."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from autokv.api import logs
from autokv.api.responses import MEDIA_TYPE, template
from autokv.errors import (
    AutoKVError,
    ConflictError,
    InputError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
    StorageError,
    TooLargeError,
    UnavailableError,
)
from autokv.wire import Problem, ProblemField

_STATUS: tuple[tuple[type[AutoKVError], int, str], ...] = (
    (NotFoundError, 404, "not-found"),
    (KeyReusedError, 422, "key-reused"),
    (PreconditionError, 412, "precondition-failed"),
    (UnavailableError, 503, "unavailable"),
    (ConflictError, 409, "conflict"),
    (TooLargeError, 413, "too-large"),
    (StorageError, 500, "failed"),
    (InputError, 422, "invalid"),
)
"""The first that fits, and the last part of its type."""
_KINDS = {
    400: "unreadable",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    412: "precondition-failed",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    428: "precondition-required",
    500: "failed",
    503: "unavailable",
}
"""What the framework, or a route by its status, refuses."""
_REMEDIES = {
    400: "send UTF-8 JSON, nested no deeper than its meaning needs",
    404: "see /docs for the paths",
    405: "see the Allow header, and /docs",
    406: "accept one of them",
    415: "set Content-Type",
    422: "see /docs",
    428: "send If-Match with the revision that is replaced, or If-None-Match: * to make a new alias",
    503: "send it again in a while",
}
RETRY_SECONDS = 2
_UNSEEN = "the server failed; its log has the request's id"
_AWAY = "the database cannot be reached now; what was stored before is safe"
MAX_FIELDS = 20
"""Of the fields that are wrong, those that are named."""


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""
    app.add_exception_handler(AutoKVError, _foreseen)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def problem(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    *,
    remedy: str | None = None,
    errors: tuple[ProblemField, ...] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response."""
    body = Problem(
        type=f"urn:autokv:problem:{kind}",
        title=kind.replace("-", " ").capitalize(),
        status=status,
        detail=_printable(detail),
        instance=_printable(request.url.path),
        remedy=remedy,
        errors=errors,
        request_id=getattr(request.state, "request_id", ""),
    )
    return JSONResponse(body.model_dump(mode="json"), status, headers, MEDIA_TYPE)


def unforeseen(request: Request) -> JSONResponse:
    """What is answered when something failed that should not have; the log has the rest."""
    return problem(request, 500, "failed", _UNSEEN)


async def _foreseen(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, AutoKVError):
        raise error
    status, kind = next(
        ((status, kind) for which, status, kind in _STATUS if isinstance(error, which)), (500, "failed")
    )
    if status == 500:
        raise error
    if status == 503:
        # Where the database is, and what its driver says, is the operator's to know.
        logs.errors.warning("the database is away: %s", error)
        return problem(request, status, kind, _AWAY, remedy=_REMEDIES[503], headers={"Retry-After": str(RETRY_SECONDS)})
    errors = (_field(error.field, error.message),) if error.field else ()
    detail = f"{error.field}: {error.message}" if error.field else error.message
    return problem(request, status, kind, detail, remedy=error.remedy, errors=errors)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    unreadable = next((one for one in found if one["type"] == "json_invalid"), None)
    if unreadable is not None:
        detail = f"the body is not JSON: {unreadable['ctx']['error']}, at character {unreadable['loc'][-1]}"
        return problem(request, 400, "unreadable", detail, remedy=_REMEDIES[400])
    errors = tuple(_field(_path(one), str(one["msg"])) for one in found[:MAX_FIELDS])
    detail = f"{errors[0].field}: {errors[0].message}" if errors else "the request is not valid"
    return problem(request, 422, "invalid", detail, remedy=_REMEDIES[422], errors=errors)


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    status, detail = error.status_code, str(error.detail)
    if detail == HTTPStatus(status).phrase:
        detail = f"{request.method} {request.url.path}: {detail.lower()}"
    kind = _KINDS.get(status, "refused")
    headers = dict(error.headers) if error.headers else {}
    if status == 405:
        # The framework names the methods of the first route of this path alone.
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "")
    return problem(request, status, kind, detail, remedy=_REMEDIES.get(status), headers=headers)


def _methods(request: Request) -> list[str]:
    described = request.app.openapi()["paths"].get(template(request.scope) or "", {})
    return sorted(method.upper() for method in described)


def _field(field: str, message: str) -> ProblemField:
    return ProblemField(field=_printable(field), message=_printable(message))


def _path(error: dict[str, Any]) -> str:
    """The path in the body, or the parameter's name: the place it was looked for is left out."""
    where, *rest = error["loc"]
    return ".".join(map(str, rest)) or str(where)


def _printable(text: str) -> str:
    """One line that every encoding holds."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
