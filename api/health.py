"""Whether the server lives, is ready, and how it fares."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response

from autokv.api.dependencies import Stored
from autokv.api.metrics import CONTENT_TYPE, Metrics
from autokv.api.problems import RETRY_SECONDS, problem
from autokv.api.responses import files, problems
from autokv.errors import StorageError
from autokv.wire import View

router = APIRouter(tags=["health"])


class Health(View):
    """All is well."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", summary="Liveness", responses=problems())
async def healthz() -> Health:
    """The process answers; nothing else is asked."""
    return Health()


@router.get("/readyz", response_model=Health, summary="Readiness", responses=problems())
def readyz(request: Request, stored: Stored) -> Health | Response:
    """The database answers, and has this version's schema."""
    try:
        stored.check_ready()
    except StorageError as error:
        return problem(request, 503, "unavailable", str(error), headers={"Retry-After": str(RETRY_SECONDS)})
    return Health()


@router.get(
    "/metrics",
    response_class=Response,
    summary="Metrics for Prometheus",
    responses=problems() | {200: files("In Prometheus' text format.", "text/plain")},
)
def metrics(request: Request) -> Response:
    """Counts of requests, jobs and workers, and times, in base units."""
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE)
