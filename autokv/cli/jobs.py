"""``autokv jobs``: what was run, and what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autokv import settings
from autokv.cli import complete
from autokv.cli.tables import (
    DatabaseOption,
    JsonOption,
    local_time,
    open_existing,
    print_facts,
    print_json,
    print_table,
    short_model,
)
from autokv.runs.commands import database_option, resume_command

if TYPE_CHECKING:
    from autokv.storage import Job
    from autokv.tuning.trial import TuningResult

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_jobs(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List every job, the newest first."""
    with open_existing(database) as stored:
        jobs = stored.jobs.list()
    if as_json:
        print_json(jobs)
        return
    rows = [
        (job.id, job.state, short_model(job.request.model), _progress(job), local_time(job.created)) for job in jobs
    ]
    print_table(("job", "state", "model", "trials", "created"), rows, shrink="model", empty="no jobs yet")


@app.command()
def show(
    job: Annotated[str, typer.Argument(help="Id of a job, or how it begins.", autocompletion=complete.job)],
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a job, its front and what it recommends."""
    with open_existing(database) as stored:
        found = stored.jobs.get(job)
        result = stored.results.of(found.id)
    if as_json:
        print_json({"job": found, "result": None if result is None else _outcome(result)})
        return
    print_facts(_facts(found, result))
    for what, command in _commands(found, result, database or settings.current().database_url):
        typer.echo(f"{what}: {command}")
    if result is not None:
        from autokv.cli import console

        console.output().print()
        console.print_table(console.output(), console.front_table(result))


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


def _progress(job: Job) -> str:
    return f"{job.trials}/{job.request.trials}"


def _commands(job: Job, result: TuningResult | None, url: str) -> Iterator[tuple[str, str]]:
    """What can be done with a job, each a line that can be copied."""
    if result is not None:
        yield "as files", shlex.join(["autokv", "configs", "list", "--job", job.id, *database_option(url)])
    if job.state in {"interrupted", "failed"}:
        yield "to resume", resume_command(job.id, url)


def _facts(job: Job, result: TuningResult | None) -> dict[str, str | None]:
    facts = {
        "job": job.id,
        "state": job.state,
        "runs as": job.runner,
        "why": job.reason,
        "model": job.request.model,
        "trials": _progress(job),
        "seed": str(job.request.seed),
        "created": local_time(job.created),
        "finished": local_time(job.finished),
    }
    if result is not None:
        facts["recommended"] = result.recommended or "none"
        facts |= result.named
    return facts
