"""What a job found: its trials, its front and its report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse

from autokv.api.dependencies import DatabaseDep, Id
from autokv.api.headers import IfNoneMatch, known
from autokv.api.paging import PageQuery
from autokv.api.responses import files, problems
from autokv.errors import NotFoundError
from autokv.storage import Database
from autokv.wire import FrontView, Page, TrialView

router = APIRouter(tags=["jobs"])


class TrialsQuery(PageQuery):
    """Which trials; they come in the order of their numbers."""


@router.get("/jobs/{job_id}/trials", summary="Trials of a job", responses=problems(404))
def trials(job_id: Id, query: Annotated[TrialsQuery, Query()], database: DatabaseDep) -> Page[TrialView]:
    """The finished trials of a job by number, failed and infeasible ones too; a running job adds to them."""
    _require(database, job_id)
    after = query.after(int)
    found = database.summaries.trials(job_id, -1 if after is None else after, query.limit + 1)
    shown = found[: query.limit]
    following = [shown[-1].number] if len(found) > query.limit else None
    return Page(items=tuple(shown), next=query.encoded(following))


@router.get("/jobs/{job_id}/front", summary="Pareto front of a job", responses=problems(404))
def front(job_id: Id, database: DatabaseDep) -> FrontView:
    """The front of the job's last result, confirmed on prompts that the search had not seen."""
    found = database.summaries.front(job_id)
    if found is None:
        raise _no_result(database, job_id)
    return found


@router.get(
    "/jobs/{job_id}/report.html",
    response_class=HTMLResponse,
    summary="Report of a job",
    responses=problems(404)
    | {
        200: files("One page that needs no network.", "text/html"),
        304: {"description": "Not modified: it matches `If-None-Match`."},
    },
)
def report_page(job_id: Id, database: DatabaseDep, if_none_match: IfNoneMatch = None) -> Response:
    """The report of the job's last result, as `autokv tune` writes it."""
    found = database.summaries.result_of(job_id)
    if found is None:
        raise _no_result(database, job_id)
    tag = f'"{job_id}-{found[0]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if known(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    # Drawing is a large library, which most servers never need.
    from autokv.runs.result_files import report

    return HTMLResponse(report(database, job_id), headers=headers)


def _require(database: Database, job_id: str) -> None:
    if job_id not in database.events.latest((job_id,)):
        raise NotFoundError("there is no such job", field=f"job {job_id}", remedy="see /v1/jobs")


def _no_result(database: Database, job_id: str) -> NotFoundError:
    _require(database, job_id)
    return NotFoundError("has no result yet", field=f"job {job_id}", remedy=f"follow it at /v1/jobs/{job_id}/events")
