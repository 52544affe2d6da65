"""Traces and files of prompts: the body of the request is the file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from urllib.parse import quote
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from autokv.api.dependencies import DatabaseDep, Id
from autokv.api.headers import IfNoneMatch, check_media_type, known
from autokv.api.inspection import prompts_facts, trace_facts
from autokv.api.paging import PageQuery
from autokv.api.paging import Query as Parameters
from autokv.api.responses import UNCHANGED, answer, located, problems
from autokv.errors import NotFoundError
from autokv.storage import Database
from autokv.wire import Page, UploadKind, UploadView

router = APIRouter()
BINARY = "application/octet-stream"
MEDIA_TYPES = (
    BINARY,
    "application/gzip",
    "application/json",
    "application/jsonl",
    "application/vnd.apache.parquet",
    "application/x-ndjson",
    "application/zstd",
    "text/csv",
    "text/plain",
)
"""What a file is, is told by its content; these are refused neither here nor by anything on the way."""
BUFFER_BYTES = 1 << 20
CHECKED_AT_ONCE = 2
"""Files that are checked at the same time; each may take all of a core, and more memory than it has bytes."""
Facts = Callable[[Path, str, Mapping[str, Any]], Mapping[str, Any]]


class UploadQuery(Parameters):
    """What a file is called."""

    name: str = Field(
        "upload",
        min_length=1,
        max_length=100,
        pattern=r"^[^/\\\x00-\x1f\x7f.][^/\\\x00-\x1f\x7f]*$",
        description="name of the file, without folders; the same bytes under the same name are the same upload",
    )

    @property
    def reading(self) -> Mapping[str, Any]:
        """What else is said of how the file is read."""
        return {}


class TraceQuery(UploadQuery):
    """What a trace is called, and how it is read where its form does not say so."""

    column: list[str] = Field(
        default_factory=list,
        max_length=4,
        description="NAME=COLUMN: where arrival, input_tokens, output_tokens or session is; repeat for more",
    )
    time_unit: Literal["s", "ms", "us", "ns", "iso", "mdy", "dmy"] | None = Field(
        None, description="of the arrivals, where it is not the format's"
    )
    hash_block_size: int | None = Field(None, ge=1, le=1 << 20, description="tokens of a hashed block of a prompt")
    block_size: int | None = Field(None, ge=1, le=1 << 20, description="earlier name of hash_block_size")
    max_bad_rows: float | None = Field(None, ge=0, le=1, description="share of rows that may be bad; 0.01")

    @property
    def reading(self) -> Mapping[str, Any]:
        """Arguments of :func:`autokv.workload.read_trace`."""
        columns = dict(column.partition("=")[::2] for column in self.column)
        share = {} if self.max_bad_rows is None else {"max_rejected_share": self.max_bad_rows}
        blocks = {"hash_block_size": self.hash_block_size or self.block_size}
        return {"columns": columns, "time_unit": self.time_unit, **blocks, **share}


def _add_routes(kind: UploadKind, path: str, noun: str, facts: Facts, asked: type[UploadQuery]) -> None:
    """The routes of one kind of upload."""
    tags: list[str | Enum] = [path]

    async def upload(request: Request, query: UploadQuery, database: DatabaseDep) -> Response:
        """Store the body, once all of it has been read and checked; a file that cannot be used is refused (422)."""
        check_media_type(request.headers.get("content-type", BINARY), MEDIA_TYPES, f"the file itself as {BINARY}")
        with TemporaryDirectory(prefix="autokv-upload-") as folder:
            file = Path(folder) / kind
            await _receive(request, file)
            async with _turn():
                added, new = await run_in_threadpool(_keep, database, kind, query, file, facts)
        headers = {"Location": f"/v1/{path}/{added.id}"}
        return answer(added, 201 if new else 200, headers)

    upload.__annotations__["query"] = Annotated[asked, Query()]
    router.post(
        f"/{path}",
        status_code=201,
        response_model=UploadView,
        operation_id=f"upload_{path}",
        summary=f"Upload a {noun}",
        tags=tags,
        responses=problems(body=True)
        | {200: {**located("The same file is there already."), "model": UploadView}, 201: located("Stored.")},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES},
            }
        },
    )(upload)

    @router.get(f"/{path}", operation_id=f"list_{path}", summary=f"List {path}", tags=tags, responses=problems())
    def uploads(query: Annotated[PageQuery, Query()], database: DatabaseDep) -> Page[UploadView]:
        """What was uploaded, the newest first."""
        found, following = database.uploads.page(kind, query.position, query.limit)
        return query.page(found, following)

    @router.get(
        f"/{path}/{{upload_id}}",
        operation_id=f"get_{path}",
        summary=f"Show a {noun}",
        tags=tags,
        responses=problems(404),
    )
    def show(upload_id: Id, database: DatabaseDep) -> UploadView:
        """A file's name, size and digest, and what was found in it."""
        return _get(database, kind, upload_id)

    @router.get(
        f"/{path}/{{upload_id}}/content",
        operation_id=f"download_{path}",
        summary=f"Download a {noun}",
        tags=tags,
        response_class=StreamingResponse,
        responses=problems(404)
        | UNCHANGED
        | {
            200: {
                "description": "The bytes of the file.",
                "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    def download(upload_id: Id, database: DatabaseDep, if_none_match: IfNoneMatch = None) -> Response:
        """The bytes of a file; they never change, and the ETag is their SHA-256."""
        found = _get(database, kind, upload_id)
        tag = f'"{found.digest}"'
        headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable"}
        if known(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        headers |= {
            "Content-Length": str(found.size_bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(database.uploads.chunks(upload_id), headers=headers, media_type=BINARY)

    @router.delete(
        f"/{path}/{{upload_id}}",
        status_code=204,
        operation_id=f"delete_{path}",
        summary=f"Delete a {noun}",
        tags=tags,
        responses=problems(404, 409),
    )
    def delete(upload_id: Id, database: DatabaseDep) -> None:
        """Delete a file that no job uses."""
        _get(database, kind, upload_id)
        database.uploads.delete(upload_id)


async def _receive(request: Request, file: Path) -> None:
    """Write the body to ``file``, a buffer at a time; the limit is watched where the body comes from."""
    with file.open("wb") as opened:
        buffer = bytearray()
        try:
            async for chunk in request.stream():
                buffer += chunk
                if len(buffer) >= BUFFER_BYTES:
                    await run_in_threadpool(opened.write, bytes(buffer))
                    buffer.clear()
        except ClientDisconnect:
            raise HTTPException(400, "the body ended early") from None
        await run_in_threadpool(opened.write, bytes(buffer))


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def _turn() -> asyncio.Semaphore:
    """What a file waits for before it is checked, without holding a thread."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(CHECKED_AT_ONCE))


def _keep(
    database: Database, kind: UploadKind, query: UploadQuery, file: Path, facts: Facts
) -> tuple[UploadView, bool]:
    found = facts(file, query.name, query.reading)
    return database.uploads.add(kind, query.name, _pieces(file), found)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from iter(lambda: opened.read(BUFFER_BYTES), b"")


def _get(database: Database, kind: UploadKind, upload_id: str) -> UploadView:
    """The upload, which must be of this kind."""
    with suppress(NotFoundError):
        found = database.uploads.get(upload_id)
        if found.kind == kind:
            return found
    path = "traces" if kind == "trace" else kind
    raise NotFoundError("there is no such upload", field=f"{kind} {upload_id}", remedy=f"see /v1/{path}")


_add_routes("trace", "traces", "trace", trace_facts, TraceQuery)
_add_routes("prompts", "prompts", "file of prompts", prompts_facts, UploadQuery)
