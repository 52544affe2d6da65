"""What a server's problem is in the project's tree of errors."""

from __future__ import annotations

import httpx2
from pydantic import ValidationError

from autokv.errors import (
    AutoKVError,
    ConflictError,
    KeyReusedError,
    NotFoundError,
    PreconditionError,
    RequestError,
    ServerError,
    TooLargeError,
    UnavailableError,
)
from autokv.wire import Problem

PREFIX = "urn:autokv:problem:"
KINDS: dict[str, type[AutoKVError]] = {
    "conflict": ConflictError,
    "invalid": RequestError,
    "key-reused": KeyReusedError,
    "not-found": NotFoundError,
    "precondition-failed": PreconditionError,
    "precondition-required": PreconditionError,
    "too-large": TooLargeError,
    "unavailable": UnavailableError,
}
STATUSES: dict[int, type[AutoKVError]] = {
    404: NotFoundError,
    409: ConflictError,
    412: PreconditionError,
    413: TooLargeError,
    428: PreconditionError,
    503: UnavailableError,
}


def error_of(response: httpx2.Response) -> AutoKVError:
    """The error that an answer with a status of 400 or more means."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ServerError(
            f"answered {response.status_code} {response.reason_phrase}".rstrip(),
            field=str(response.request.url),
            remedy="is it an AutoKV server?" if response.status_code < 500 else "try again later",
        )
    kind = KINDS.get(problem.type.removeprefix(PREFIX)) or STATUSES.get(problem.status)
    if kind is None:
        kind = RequestError if problem.status < 500 else ServerError
    if kind is ServerError:
        message = f"{problem.detail} (request {problem.request_id})"
        return ServerError(message, field=str(response.request.url), remedy=problem.remedy)
    first, *more = problem.errors or (None,)
    message = problem.detail if first is None else first.message
    if more:
        message = f"{message} (and {len(more)} more)"
    return kind(message, field=None if first is None else first.field, remedy=problem.remedy)
