"""Every error as problem+json (RFC 9457), in one shape."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from autokv.api.responses import MEDIA_TYPE
from autokv.errors import (
    AutoKVError,
    ConflictError,
    InputError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
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
    (InputError, 422, "invalid"),
)
"""The first that fits, and the last part of its type."""


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""
    app.add_exception_handler(AutoKVError, _foreseen)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def problem(
    request: Request,
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    remedy: str | None = None,
    errors: tuple[ProblemField, ...] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """A problem as a response."""
    body = Problem(
        type=f"urn:autokv:problem:{kind}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        remedy=remedy,
        errors=errors,
        request_id=getattr(request.state, "request_id", ""),
    )
    return JSONResponse(body.model_dump(mode="json"), status, headers, MEDIA_TYPE)


async def _foreseen(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, AutoKVError):
        raise error
    status, kind = next(
        ((status, kind) for which, status, kind in _STATUS if isinstance(error, which)), (500, "failed")
    )
    errors = (ProblemField(field=error.field, message=error.message),) if error.field else ()
    title = kind.replace("-", " ").capitalize()
    headers = {"Retry-After": "2"} if status == 503 else None
    return problem(request, status, kind, title, error.message, remedy=error.remedy, errors=errors, headers=headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = tuple(ProblemField(field=_path(one), message=str(one["msg"])) for one in error.errors())
    detail = f"{errors[0].field}: {errors[0].message}" if errors else "the request is not valid"
    return problem(request, 422, "invalid", "Invalid", detail, remedy="see /openapi.json", errors=errors)


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    kind = str(error.detail).lower().replace(" ", "-")
    headers = dict(error.headers) if error.headers else None
    return problem(request, error.status_code, kind, str(error.detail), str(error.detail), headers=headers)


async def _unforeseen(request: Request, _: Exception) -> JSONResponse:
    return problem(request, 500, "failed", "Failed", "the server failed; its log has the request's id")


def _path(error: dict[str, Any]) -> str:
    """The path in the body, or the parameter's name: the place it was looked for is left out."""
    where, *rest = error["loc"]
    return ".".join(map(str, rest)) or str(where)
