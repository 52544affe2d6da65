"""Bodies of requests: how large they may be, and of which media type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

MAX_BODY_BYTES = 1 << 20
"""Of a JSON document; uploads have a setting."""


@dataclass(frozen=True)
class Limits:
    """``uploads`` has the paths whose bodies are files, with their limits in bytes; every other body is JSON.

    Nothing is looked at before a route reads the body, so that a path that there is not is a 404 first.
    """

    uploads: Mapping[str, int]

    def of(self, scope: Scope, receive: Receive) -> Receive:
        """``receive``, with the limits of this request's path."""
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            return receive
        limit, headers, read = self.uploads.get(scope["path"], MAX_BODY_BYTES), Headers(scope=scope), 0
        file = scope["path"] in self.uploads

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
