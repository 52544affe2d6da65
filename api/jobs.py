"""Jobs: submit, look at, stop, run again, forget; and what they found: trials, front and report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse
from pydantic import Field

from autokv.api.dependencies import DatabaseDep, FleetDep, HubDep, Id, SettingsDep
from autokv.api.headers import IfNoneMatch, Wait, applied, known
from autokv.api.paging import PageQuery, Text
from autokv.api.responses import UNCHANGED, answer, files, located, problems
from autokv.api.views import job_view, look
from autokv.errors import NotFoundError
from autokv.jobs.submission import check_submission, estimate
from autokv.storage import Database, Job
from autokv.wire import ENDED_STATES, FrontView, JobState, JobSubmission, JobView, Page, TrialView, ValidationView

router = APIRouter(tags=["jobs"])

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="idempotency key: the same key and body give the same job",
    ),
]
_WAITED = {"Preference-Applied": {"schema": {"type": "string"}, "description": "`wait=N`, if the server waited"}}


class JobsQuery(PageQuery):
    """Which jobs; a filter compares what was submitted."""

    state: tuple[JobState, ...] = Field((), max_length=6, description="any of these")
    model: Text | None = None
    hardware: Text | None = None
    workload: Text | None = Field(None, description="id of a trace")


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobView,
    summary="Submit a job",
    responses=problems(409, body=True)
    | {200: {**located("It has ended within the time of `Prefer: wait`."), "model": JobView}, 202: located("Stored.")},
)
async def submit(
    submission: JobSubmission,
    request: Request,
    database: DatabaseDep,
    settings: SettingsDep,
    fleet: FleetDep,
    hub: HubDep,
    wait: Wait,
    key: Key = None,
) -> Response:
    """Store a job; it is durable when this is answered. A worker that fits takes it, the oldest first."""

    def store() -> tuple[Job, JobView]:
        checked = check_submission(submission, database, settings)
        job, _ = database.queue.submit(
            checked.request,
            submission=checked.document,
            selector=checked.selector.to_json(),
            trace=checked.trace,
            prompts=checked.prompts,
            profile=checked.profile,
            key=key,
        )
        return look(job.id, database, fleet)

    job, view = await run_in_threadpool(store)
    request.state.job_id = job.id
    if wait and job.state not in ENDED_STATES:
        await hub.ended(job.id, (job.last_event, job.state), wait)
        job, view = await run_in_threadpool(look, job.id, database, fleet)
    headers = {"Location": f"/v1/jobs/{job.id}", **applied(wait)}
    return answer(view, 200 if wait and job.state in ENDED_STATES else 202, headers)


@router.post("/jobs/validate", summary="Validate a submission", responses=problems(body=True))
def validate(
    submission: JobSubmission, database: DatabaseDep, settings: SettingsDep, fleet: FleetDep
) -> ValidationView:
    """Check a submission and store nothing: what would run, who could run it, and about how long."""
    checked = check_submission(submission, database, settings)
    time = estimate(checked, database)
    return ValidationView(
        request=checked.request.model_dump(mode="json"),
        notes=checked.notes,
        workers=fleet.told(checked.selector),
        queue_ahead=database.queue.waiting().get(checked.selector.to_json(), 0),
        seconds=time.seconds,
        basis=time.basis,
    )


@router.get("/jobs", summary="List jobs", responses=problems())
def jobs(query: Annotated[JobsQuery, Query()], database: DatabaseDep, fleet: FleetDep) -> Page[JobView]:
    """Jobs, the newest first; facts, attempts and places in the queue are shown with each job alone."""
    found, following = database.jobs.page(
        states=query.state,
        model=query.model,
        hardware=query.hardware,
        workload=query.workload,
        cursor=query.position,
        limit=query.limit,
    )
    return query.page((job_view(job, fleet) for job in found), following)


@router.get(
    "/jobs/{job_id}",
    response_model=JobView,
    summary="Show a job",
    responses=problems(404) | {200: {"description": "The job.", "headers": _WAITED}},
)
async def show(job_id: Id, database: DatabaseDep, fleet: FleetDep, hub: HubDep, wait: Wait) -> Response:
    """A job; with `Prefer: wait=N` the answer waits until it has ended, for at most N seconds."""
    job, view = await run_in_threadpool(look, job_id, database, fleet)
    if wait and job.state not in ENDED_STATES:
        await hub.ended(job.id, (job.last_event, job.state), wait)
        _, view = await run_in_threadpool(look, job_id, database, fleet)
    return answer(view, 200, applied(wait))


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job", responses=problems(404, 409))
def cancel(job_id: Id, database: DatabaseDep, fleet: FleetDep) -> JobView:
    """Cancel a job that waits or runs, at once; cancelling it again changes nothing."""
    database.queue.cancel(job_id, "cancelled over HTTP")
    return look(job_id, database, fleet)[1]


@router.post("/jobs/{job_id}/retry", summary="Run a job again", responses=problems(404, 409))
def retry(job_id: Id, database: DatabaseDep, fleet: FleetDep) -> JobView:
    """Queue a job that failed or was cancelled; its trials are kept. A job that waits or runs is not changed."""
    database.queue.retry(job_id)
    return look(job_id, database, fleet)[1]


@router.delete("/jobs/{job_id}", status_code=204, summary="Delete a job", responses=problems(404, 409))
def delete(job_id: Id, database: DatabaseDep) -> None:
    """Delete a job that has ended, with its trials and configurations, unless an alias stands or stood for one."""
    database.queue.delete(job_id)


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
    responses=problems(404) | UNCHANGED | {200: files("One page that needs no network.", "text/html")},
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
