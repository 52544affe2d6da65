"""``autokv jobs submit``: a job for the workers of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli import options as asked
from autokv.cli.store import ServerOption, open_server
from autokv.cli.tables import JsonOption, print_facts, print_json
from autokv.tuning.request import read_request_file

if TYPE_CHECKING:
    from autokv.wire import ValidationView


def submit(
    context: typer.Context,
    request_file: Annotated[
        Path | None, typer.Argument(help="YAML file with the same fields.", metavar="[FILE]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of an offered model, or Hugging Face id.")] = None,
    workload: Annotated[str | None, typer.Option(help="Trace: a file to upload, or the id of an upload.")] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Device to serve on: here, a catalog's name, a profile's id, a file.")
    ] = None,
    rate: asked.Rate = None,
    slo: asked.Slo = None,
    kv_memory: asked.KvMemory = None,
    scenario: asked.Scenario = None,
    column: asked.Column = None,
    time_unit: asked.TimeUnit = None,
    tokenizer: asked.Tokenizer = None,
    hash_block_size: asked.HashBlockSize = None,
    max_bad_rows: asked.BadRows = None,
    prompts: asked.Prompts = None,
    tasks: asked.Tasks = None,
    space: asked.Space = None,
    objective: asked.Objective = None,
    maximum: asked.Maximum = None,
    minimum: asked.Minimum = None,
    utility: asked.Utility = None,
    price_per_hour: asked.PricePerHour = None,
    sampler: asked.Sampler = None,
    trials: asked.Trials = None,
    batch_size: asked.BatchSize = None,
    timeout: asked.Timeout = None,
    patience: asked.Patience = None,
    seed: asked.Seed = None,
    samples: asked.Samples = None,
    validation_samples: asked.ValidationSamples = None,
    context_tokens: asked.ContextTokens = None,
    max_context_tokens: asked.MaxContextTokens = None,
    continuation_tokens: asked.ContinuationTokens = None,
    dtype: asked.Dtype = None,
    labels: Annotated[str, typer.Option(help="Labels that the worker must have: zone=a,tier=b.")] = "",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Run on any device and predict the costs of --hardware.")
    ] = False,
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

    own = {"request_file", "labels", "estimate", "key", "validate", "watch", "server", "as_json"}
    given = asked.fields_of({name: value for name, value in context.params.items() if name not in own})
    fields = {**(read_request_file(request_file) if request_file else {}), **given}
    fields |= {"labels": asked.label_map(labels, "--labels")} if labels else {}
    fields |= {"estimate": True} if estimate else {}
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
