"""``autokv remote``: jobs of a server, from the command line."""

from __future__ import annotations

import shlex
import string
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import complete, remote_alias
from autokv.cli import options as asked
from autokv.cli.renamed import Renamed
from autokv.cli.tables import (
    JsonOption,
    ServerOption,
    connect,
    local_time,
    print_facts,
    print_json,
    print_table,
    short_model,
)
from autokv.cli.tune import EXIT_NOTHING
from autokv.errors import Interrupted, RequestError
from autokv.runs.commands import RESULTS
from autokv.tuning.request import JobSubmission, read_request_file

if TYPE_CHECKING:
    from autokv.client import Client
    from autokv.wire import JobView, ValidationView

app = typer.Typer(no_args_is_help=True)
app.add_typer(remote_alias.app, name="alias", help="Aliases: names for configurations.")

ALIAS = frozenset(string.ascii_lowercase + string.digits + "._-")
"""Characters of an alias's name."""

JobArgument = Annotated[str, typer.Argument(help="Id of a job.", autocompletion=complete.remote_job)]


@app.command(cls=Renamed)
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
    fields = {**(read_request_file(request_file) if request_file else {}), **given}
    with connect(server) as client:
        fields = client.uploaded(**fields)
        if validate:
            _tell(client.jobs.validate(fields), as_json)
            return
        job = client.jobs.submit(fields, key=key)
        if as_json:
            print_json(job)
        else:
            typer.echo(job.id)
        _say_who_is_missing(job)
        if watch:
            _watch(client, job.id, server)


@app.command("list")
def list_jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; repeat for more.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of jobs to list, at most.")] = 50,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with connect(server) as client:
        jobs = list(islice(client.jobs.list(state=state or None, model=model, limit=min(limit, 200)), limit))
    if as_json:
        print_json(jobs)
        return
    rows = [
        (job.id, job.state, short_model(str(job.request["model"])), _trials(job), local_time(job.created))
        for job in jobs
    ]
    print_table(("job", "state", "model", "trials", "created"), rows, shrink="model", empty="no jobs yet")


@app.command()
def show(job: JobArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Show a job: its state, progress, queue and worker."""
    with connect(server) as client:
        found = client.jobs.get(job)
    if as_json:
        print_json(found)
        return
    facts: dict[str, str | None] = {
        "job": found.id,
        "state": found.state,
        "why": found.reason,
        "model": str(found.request["model"]),
        "trials": _trials(found),
        "phase": found.progress.phase if found.progress and found.state == "running" else None,
        "in the queue": f"{found.queue.position} of {found.queue.length}" if found.queue else None,
        "worker": found.worker,
        "recommended": found.recommended,
        "created": local_time(found.created),
        "finished": local_time(found.finished),
    }
    facts |= {f"attempt {one.number}": _because(one.outcome or "runs", one.reason, found) for one in found.attempts}
    facts |= {one.type: _because("yes" if one.status else "no", one.message, found) for one in found.conditions}
    print_facts(facts)


@app.command()
def watch(job: JobArgument, server: ServerOption = None) -> None:
    """Follow a job to its end.

    The exit code is 0 if it recommends a configuration, 3 if it recommends none, else 1.
    """
    with connect(server) as client:
        _say_who_is_missing(client.jobs.get(job))
        _watch(client, job, server)


@app.command()
def cancel(job: JobArgument, server: ServerOption = None) -> None:
    """Cancel a job that waits or runs."""
    with connect(server) as client:
        typer.echo(client.jobs.cancel(job).state)


@app.command()
def retry(job: JobArgument, server: ServerOption = None) -> None:
    """Run a failed or cancelled job again; its trials are kept."""
    with connect(server) as client:
        typer.echo(client.jobs.retry(job).state)


@app.command()
def download(
    job: Annotated[
        str | None, typer.Argument(help="Id of a job.", metavar="[JOB]", autocompletion=complete.remote_job)
    ] = None,
    configuration: Annotated[
        str | None,
        typer.Option(
            help="Id or digest of a configuration, instead of a job.", autocompletion=complete.remote_configuration
        ),
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Alias of a configuration, instead of a job.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for a job's files, or file for a configuration (.json or .yaml).")
    ] = None,
    server: ServerOption = None,
) -> None:
    """Download the results of a job, or one configuration."""
    if sum(value is not None for value in (job, configuration, alias)) != 1:
        raise RequestError("name a job, or --configuration, or --alias", remedy="one of them")
    from autokv.client import download_results

    with connect(server) as client:
        if job is not None:
            paths = download_results(client, job, output or RESULTS)
        elif alias is not None:
            paths = [client.aliases.download(alias, output or f"{alias}.json")]
        elif configuration is not None:
            paths = [client.configurations.download(configuration, output or f"{configuration[:12]}.json")]
    for path in paths:
        typer.echo(f"wrote {path}")


def _watch(client: Client, job: str, server: str | None) -> None:
    from autokv.cli.console import output
    from autokv.cli.progress import follow

    try:
        ended = follow(client.tuning(job), output())
    except KeyboardInterrupt:
        again = shlex.join(["autokv", "remote", "watch", job, *(["--server", server] if server else [])])
        raise Interrupted(f"job {job} goes on", remedy=f"see it with `{again}`") from None
    if ended.state != "done":
        raise typer.Exit(1)
    if ended.recommended is None:
        raise typer.Exit(EXIT_NOTHING)
    for what, command in _next_commands(ended, ended.recommended, server):
        typer.echo(f"{what}: {command}")


def _next_commands(job: JobView, recommended: str, server: str | None) -> Iterator[tuple[str, str]]:
    """What can be done with what a job found, each a line that runs as it stands."""
    where = ["--server", server] if server else []
    model = "".join(c if c in ALIAS else "-" for c in short_model(str(job.request["model"])).lower())
    name = model[:100].strip("._-") or "recommended"
    yield "all files", shlex.join(["autokv", "remote", "download", job.id, *where])
    yield "recommended", shlex.join(["autokv", "remote", "download", "--configuration", recommended, *where])
    yield "as alias", shlex.join(["autokv", "remote", "alias", "set", name, recommended, *where])


def _say_who_is_missing(job: JobView) -> None:
    for condition in job.conditions:
        if condition.type == "WorkerAvailable" and not condition.status:
            typer.echo(condition.message, err=True)


def _because(what: str, reason: str | None, job: JobView) -> str:
    """What holds and why; the job's own reason has a line of its own."""
    return what if reason in {None, "", job.reason} else f"{what}, {reason}"


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


def _trials(job: JobView) -> str:
    return f"{job.trials}/{job.request['trials']}"
