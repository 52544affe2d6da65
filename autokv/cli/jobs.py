"""``autokv jobs``: what was asked, how it goes, and what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from autokv.cli import complete
from autokv.cli import options as asked
from autokv.cli.store import ServerOption, open_server, open_store
from autokv.cli.tables import (
    DatabaseOption,
    JsonOption,
    local_time,
    print_facts,
    print_json,
    print_table,
    short_model,
)
from autokv.errors import RequestError
from autokv.runs.commands import RESULTS
from autokv.tuning.request import JobSubmission, read_request_file
from autokv.wire import JobState, JobView

if TYPE_CHECKING:
    from autokv.tuning.trial import TuningResult
    from autokv.wire import ValidationView

app = typer.Typer(no_args_is_help=True)

PAGE = 200
"""Jobs that are asked for at once, at most."""
STATES: tuple[JobState, ...] = get_args(JobState)
JobArgument = Annotated[
    str, typer.Argument(help="Id of a job; in a database also how it begins.", autocompletion=complete.job)
]


@app.command(cls=asked.Renamed)
@asked.takes(JobSubmission)
def submit(
    *,
    request_file: Annotated[
        Path | None, typer.Argument(help="YAML file with the same fields.", metavar="[FILE]")
    ] = None,
    given: asked.Given,
    key: Annotated[str | None, typer.Option(help="Idempotency key: submitting it again gives the same job.")] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Check the job and show what would run; submit nothing.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a tuning job; files are uploaded first."""
    from autokv.cli.progress import say_who_is_missing, watch_job

    fields = {**(read_request_file(request_file) if request_file else {}), **given}
    with open_server(server) as client:
        fields = client.uploaded(**fields)
        if validate:
            _tell(client.jobs.validate(fields), as_json)
            return
        job = client.jobs.submit(fields, key=key)
        if as_json:
            print_json(job)
        else:
            typer.echo(job.id)
        if watch:
            watch_job(client, job)
        else:
            say_who_is_missing(job)


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; repeat for more.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of jobs to list, at most; default: all.")] = None,
    server: ServerOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with open_store(server, database) as store:
        found = store.jobs.list(state=_states(state or ()), model=model, limit=min(limit or PAGE, PAGE))
        jobs = list(islice(found, limit))
    if as_json:
        print_json(jobs)
        return
    rows = [
        (job.id, job.state, short_model(str(job.request["model"])), _trials(job), local_time(job.created))
        for job in jobs
    ]
    print_table(("job", "state", "model", "trials", "created"), rows, shrink="model", empty="no jobs yet")


@app.command()
def show(
    job: JobArgument, server: ServerOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """Show a job: its progress, its front and what it recommends."""
    with open_store(server, database) as store:
        found = store.jobs.get(job)
        result = store.result(found)
    if as_json:
        print_json({"job": found, "result": None if result is None else _outcome(result)})
        return
    print_facts(_facts(found, result))
    if result is not None:
        typer.echo(f"as files: {shlex.join(['autokv', 'configs', 'list', '--job', found.id, *store.option])}")
    if found.state in {"interrupted", "failed", "cancelled"}:
        typer.echo(f"to go on: {shlex.join(store.resume_command(found))}")
    if result is not None:
        from autokv.cli import console

        console.output().print()
        console.print_table(console.output(), console.front_table(result))


@app.command()
def watch(job: JobArgument, server: ServerOption = None, database: DatabaseOption = None) -> None:
    """Follow a job to its end.

    The exit code is 0 if it recommends a configuration, 3 if it recommends none, else 1.
    """
    from autokv.cli.progress import watch_job

    with open_store(server, database) as store:
        watch_job(store, store.jobs.get(job))


@app.command()
def cancel(job: JobArgument, server: ServerOption = None, database: DatabaseOption = None) -> None:
    """Cancel a job that waits or runs."""
    with open_store(server, database) as store:
        typer.echo(store.jobs.cancel(job).state)


@app.command()
def retry(job: JobArgument, server: ServerOption = None, database: DatabaseOption = None) -> None:
    """Run a failed or cancelled job again; its trials are kept."""
    with open_store(server, database) as store:
        typer.echo(store.jobs.retry(job).state)


@app.command()
def download(
    job: JobArgument,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = RESULTS,
    server: ServerOption = None,
    database: DatabaseOption = None,
) -> None:
    """Download the results of a job."""
    with open_store(server, database) as store:
        for path in store.download(job, output):
            typer.echo(f"wrote {path}")


def _tell(told: ValidationView, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    from autokv.report.format import duration

    facts = {
        "model": str(told.request["model"]),
        "workers": told.workers.message,
        "ahead of it": str(told.queue_ahead),
        "takes": "not known" if told.seconds is None else f"about {duration(told.seconds)}",
        "estimated from": told.basis,
    }
    print_facts(facts | {"note" if number == 0 else " " * number: note for number, note in enumerate(told.notes)})


def _outcome(result: TuningResult) -> dict[str, Any]:
    """The result without the trials behind it."""
    return {
        "recommended": result.recommended,
        "named": result.named,
        "reason": result.reason,
        "stopped_by": result.stopped_by,
        "front": [
            {
                "trial": point.trial,
                "source": point.source,
                "feasible": point.feasible,
                "calibration": point.calibration.to_dict(),
                "validation": None if point.validation is None else point.validation.to_dict(),
            }
            for point in result.front
        ],
    }


def _states(given: Sequence[str]) -> Sequence[JobState]:
    for state in given:
        if state not in STATES:
            raise RequestError(f"{state!r} is no state", field="--state", remedy=f"choose from {', '.join(STATES)}")
    return [state for state in STATES if state in given]


def _trials(job: JobView) -> str:
    return f"{job.trials}/{job.request['trials']}"


def _facts(job: JobView, result: TuningResult | None) -> dict[str, str | None]:
    facts: dict[str, str | None] = {
        "job": job.id,
        "state": job.state,
        "runs as": job.runner,
        "why": job.reason,
        "model": str(job.request["model"]),
        "trials": _trials(job),
        "phase": job.progress.phase if job.progress and job.state == "running" else None,
        "in the queue": f"{job.queue.position} of {job.queue.length}" if job.queue else None,
        "worker": job.worker,
        "seed": str(job.request["seed"]),
        "created": local_time(job.created),
        "finished": local_time(job.finished),
        "recommended": job.recommended,
    }
    if result is not None:
        facts |= {"recommended": result.recommended or "none", **result.named}
    facts |= {f"attempt {one.number}": _because(one.outcome or "runs", one.reason, job) for one in job.attempts}
    return facts | {one.type: _because("yes" if one.status else "no", one.message, job) for one in job.conditions}


def _because(what: str, reason: str | None, job: JobView) -> str:
    """What holds and why; the job's own reason has a line of its own."""
    return what if reason in {None, "", job.reason} else f"{what}, {reason}"
