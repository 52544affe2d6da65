"""What happens to a job, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT
from pydantic import Field

from autokv.api import paging
from autokv.api.dependencies import DatabaseDep, HubDep, Id
from autokv.api.responses import problems
from autokv.api.waiting import Hub, Seen
from autokv.errors import NotFoundError, RequestError
from autokv.wire import ENDED_STATES

router = APIRouter(tags=["jobs"])

IDLE_SECONDS = 15.0
"""A stream on which nothing happens says so this often, so that no proxy takes it for dead."""
MAX_NUMBER = 2**31 - 1
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_ITEM = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "`number` of the event"},
        "event": {"type": "string", "description": "`kind` of the event"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Event"},
        },
    },
    "required": ["id", "event", "data"],
}
"""Of each server-sent event, as OpenAPI describes streams from version 3.2 on."""


class EventStream(StreamingResponse):
    """Events that are formatted already, once for all who follow a job; FastAPI's own response formats each anew."""

    media_type = "text/event-stream"


class EventsQuery(paging.Query):
    """Where a stream begins."""

    after: int | None = Field(
        None, ge=0, le=MAX_NUMBER, description="number of the last known event; `Last-Event-ID` takes precedence"
    )


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventStream,
    summary="Follow a job",
    responses=problems(404)
    | {
        200: {
            "description": "Events as they happen, until the job has ended; the data of each is an `Event`.",
            "content": {EventStream.media_type: {"itemSchema": _ITEM}},
        },
        204: {"description": "It has ended, and every event is known: do not connect again."},
    },
)
async def events(
    job_id: Id,
    query: Annotated[EventsQuery, Query()],
    database: DatabaseDep,
    hub: HubDep,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20, pattern=r"^[0-9]{0,10}$")] = None,
) -> Response:
    """The job's own log, from its beginning or from behind the event that was read last."""
    number = int(last) if last else query.after or 0
    seen = (await run_in_threadpool(database.events.latest, (job_id,))).get(job_id)
    if seen is None:
        raise NotFoundError("there is no such job", field=f"job {job_id}", remedy="see /v1/jobs")
    if number > seen[0]:
        field = "Last-Event-ID" if last else "after"
        raise RequestError(
            f"the newest event of the job is number {seen[0]}", field=field, remedy="begin again without it"
        )
    if seen[1] in ENDED_STATES and number == seen[0]:
        return Response(status_code=204)
    return EventStream(_stream(hub, job_id, seen, number), headers=_HEADERS)


async def _stream(hub: Hub, job_id: str, seen: Seen, number: int) -> AsyncIterator[bytes]:
    async for lines in hub.lines(job_id, seen, number, IDLE_SECONDS):
        yield b"".join(lines) or KEEPALIVE_COMMENT
