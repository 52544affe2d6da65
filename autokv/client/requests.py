"""An operation as a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

import httpx2

from autokv.client.operation import Operation

CHUNK_BYTES = 1 << 18


def build(
    http: httpx2.Client | httpx2.AsyncClient,
    operation: Operation[Any],
    *,
    body: IO[bytes] | AsyncIterator[bytes] | None = None,
    read: float | None = None,
) -> httpx2.Request:
    """The request; ``read`` seconds of silence are allowed instead of the client's own."""
    own = http.timeout
    if read is None and own.read is not None:
        read = own.read + operation.seconds
    headers = dict(operation.headers)
    if operation.file is not None:
        headers["Content-Length"] = str(operation.file.stat().st_size)
    timeout = httpx2.Timeout(connect=own.connect, read=read, write=own.write, pool=own.pool)
    return http.build_request(
        operation.method,
        operation.path,
        params=operation.query,
        headers=headers,
        json=operation.json,
        content=body,
        timeout=timeout,
    )


async def chunks(file: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, read beside the event loop."""
    with await asyncio.to_thread(file.open, "rb") as opened:
        while chunk := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            yield chunk
