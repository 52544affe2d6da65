"""Jobs: submit, look at, stop, run again, forget."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, StringConstraints

from autokv.api.dependencies import DatabaseDep, FleetDep, HubDep, Id, SettingsDep
from autokv.api.headers import Wait, applied
from autokv.api.paging import PageQuery
from autokv.api.responses import answer, located, problems
from autokv.api.views import Fleet, job_view
from autokv.jobs.submission import check_submission, estimate
from autokv.storage import Database, Job
from autokv.wire import ENDED_STATES, JobState, JobSubmission, JobView, Page, ValidationView

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
Value = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
_WAITED = {"Preference-Applied": {"schema": {"type": "string"}, "description": "`wait=N`, if the server waited"}}


class JobsQuery(PageQuery):
    """Which jobs; a filter compares what was submitted."""

    state: tuple[JobState, ...] = Field((), max_length=6, description="any of these")
    model: str | None = Field(None, min_length=1, max_length=4096, pattern=r"^[^\x00]+$")
    hardware: str | None = Field(None, min_length=1, max_length=4096, pattern=r"^[^\x00]+$")
    workload: str | None = Field(
        None, min_length=1, max_length=4096, pattern=r"^[^\x00]+$", description="id of a trace"
    )


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
        return _look(job.id, database, fleet)

    job, view = await run_in_threadpool(store)
    request.state.job_id = job.id
    if wait and job.state not in ENDED_STATES:
        await hub.ended(job.id, (job.last_event, job.state), wait)
        job, view = await run_in_threadpool(_look, job.id, database, fleet)
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
    job, view = await run_in_threadpool(_look, job_id, database, fleet)
    if wait and job.state not in ENDED_STATES:
        await hub.ended(job.id, (job.last_event, job.state), wait)
        _, view = await run_in_threadpool(_look, job_id, database, fleet)
    return answer(view, 200, applied(wait))


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job", responses=problems(404, 409))
def cancel(job_id: Id, database: DatabaseDep, fleet: FleetDep) -> JobView:
    """Cancel a job that waits or runs, at once; cancelling it again changes nothing."""
    database.queue.cancel(job_id, "cancelled over HTTP")
    return _look(job_id, database, fleet)[1]


@router.post("/jobs/{job_id}/retry", summary="Run a job again", responses=problems(404, 409))
def retry(job_id: Id, database: DatabaseDep, fleet: FleetDep) -> JobView:
    """Queue a job that failed or was cancelled; its trials are kept. A job that waits or runs is not changed."""
    database.queue.retry(job_id)
    return _look(job_id, database, fleet)[1]


@router.delete("/jobs/{job_id}", status_code=204, summary="Delete a job", responses=problems(404, 409))
def delete(job_id: Id, database: DatabaseDep) -> None:
    """Delete a job that has ended, with its trials and configurations, unless an alias stands or stood for one."""
    database.queue.delete(job_id)


def _look(job_id: str, database: Database, fleet: Fleet) -> tuple[Job, JobView]:
    look = database.queue.look(job_id)
    result = database.summaries.result_of(job_id) if look.job.state == "done" else None
    return look.job, job_view(
        look.job,
        fleet,
        attempts=look.attempts,
        place=look.place,
        recommended=None if result is None else result[1],
    )
