"""What surrounds every request: its id, its log line, its figures, the limits of its body, and the last resort."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autokv.api import logs, problems
from autokv.api.health import Metrics
from autokv.api.responses import template

REQUEST_ID = "X-Request-ID"
_GIVEN = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""A caller's id that is taken over; any other is replaced."""
HUNG_UP = 499
"""The status, in logs and figures, of a request whose caller went away before the answer began."""
UNMATCHED = "unmatched"
"""The route, in logs and figures, of a path that there is not."""


class Surroundings:
    """Pure ASGI, so that streams pass through it unbuffered.

    ``uploads`` has the paths whose bodies are files, with their limits in bytes; every other body is JSON.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, uploads: Mapping[str, int]) -> None:
        self._app, self._metrics, self._uploads = app, metrics, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, streams = time.perf_counter(), 0, False
        given = Headers(scope=scope).get(REQUEST_ID, "")
        known = given if _GIVEN.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = known
        token = logs.request_id.set(known)

        async def answer(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = known
                streams = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive, self._uploads), answer)
        except Exception:
            logs.errors.exception("a request failed", extra=self._facts(scope))
            if status:
                raise
            request = Request(scope, receive)
            await problems.unforeseen(request)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begun
            self._tell(scope, status or HUNG_UP, seconds, streams)
            logs.request_id.reset(token)

    def _tell(self, scope: Scope, status: int, seconds: float, streams: bool) -> None:
        facts = self._facts(scope)
        method, route = facts["method"], facts["route"]
        self._metrics.requests.labels(method, route, str(status)).inc()
        if not streams:
            self._metrics.seconds.labels(method, route).observe(seconds)
        if logs.access.isEnabledFor(logging.INFO):
            more = {"status": status, "seconds": round(seconds, 6)}
            logs.access.info("%s %s %d", method, scope["path"], status, extra={**facts, **more})

    def _facts(self, scope: Scope) -> dict[str, Any]:
        path: Mapping[str, Any] = scope.get("path_params") or {}
        job = path.get("job_id") or scope["state"].get("job_id")
        known = {
            "request_id": scope["state"]["request_id"],
            "method": method_of(scope),
            "route": template(scope) or UNMATCHED,
        }
        return {**known, "job_id": job} if job else known


def method_of(scope: Scope) -> str:
    """The method, where it is one of HTTP's."""
    method = scope["method"]
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"


MAX_BODY_BYTES = 1 << 20
"""Of a JSON document; uploads have a setting."""


def _limited(scope: Scope, receive: Receive, uploads: Mapping[str, int]) -> Receive:
    """``receive``, with the limits of this request's path.

    Nothing is looked at before a route reads the body, so that a path that there is not is a 404 first.
    """
    if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
        return receive
    limit, headers, read = uploads.get(scope["path"], MAX_BODY_BYTES), Headers(scope=scope), 0
    file = scope["path"] in uploads

    async def limited() -> Message:
        nonlocal read
        if not read:
            declared = headers.get("content-length", "0")
            _check(int(declared) if declared.isdecimal() else 0, limit)
        message = await receive()
        if message["type"] == "http.request" and message.get("body"):
            if not read and not file:
                _check_type(headers.get("content-type", ""))
            read += len(message["body"])
            _check(read, limit)
        return message

    return limited


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise HTTPException(413, f"the body is larger than {limit} bytes", headers={"Connection": "close"})


def _check_type(content_type: str) -> None:
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/json" or (media.startswith("application/") and media.endswith("+json")):
        return
    raise HTTPException(415, f"the body is {media or 'of no media type'}; send application/json")
