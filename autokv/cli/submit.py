"""``autokv jobs submit``: a job for the workers of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import options as asked
from autokv.cli.store import ServerOption, open_server
from autokv.cli.tables import JsonOption, print_facts, print_json
from autokv.tuning.request import JobSubmission, read_request_file

if TYPE_CHECKING:
    from autokv.wire import ValidationView


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
    from autokv.cli.following import say_who_is_missing, watch_job

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
