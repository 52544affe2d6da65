"""``autokv tune``: search, confirm, recommend; and go on where a run was stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from autokv import settings
from autokv.cli import search_options as asked
from autokv.errors import RequestError
from autokv.tuning.request import TuningRequest, read_request_file

RESULTS = Path("autokv-results")


def tune(
    context: typer.Context,
    request_file: Annotated[
        Path | None, typer.Argument(help="YAML file with the same fields.", metavar="[FILE]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hugging Face id, local folder or GGUF file.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="Trace of your traffic: what is served, and its lengths.")
    ] = None,
    hardware: Annotated[str | None, typer.Option(help="Device to serve on: here, a catalog's name, a file.")] = None,
    rate: asked.Rate = None,
    slo: asked.Slo = None,
    kv_memory: asked.KvMemory = None,
    scenario: asked.Scenario = None,
    text: Annotated[str | None, typer.Option(help="Text file, cut into samples.")] = None,
    prompts: asked.Prompts = None,
    tasks: asked.Tasks = None,
    space: asked.Space = None,
    objective: asked.Objective = None,
    maximum: asked.Maximum = None,
    minimum: asked.Minimum = None,
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
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this job.", metavar="JOB")] = None,
) -> None:
    """Search for the best compression of a model's KV cache, and recommend one configuration."""
    own = {"request_file", "output", "database", "resume"}
    given = asked.fields_of({name: value for name, value in context.params.items() if name not in own})
    url = database or settings.current().database_url
    if resume is not None:
        if given or request_file:
            name = f"--{next(iter(given)).replace('_', '-')}" if given else str(request_file)
            raise RequestError("a job goes on as it was asked for", field=name, remedy="leave it out with --resume")
        run_and_show(None, url, output, resume=resume)
        return
    fields = read_request_file(request_file) if request_file else {}
    run_and_show(TuningRequest.parse({**fields, **given}, where=str(request_file or "")), url, output)


def run_and_show(request: TuningRequest | None, url: str, output: Path, *, resume: str = "") -> None:
    """Run or resume a job with live progress, and show what came of it."""
    from autokv.cli.console import front_table
    from autokv.cli.console import output as console
    from autokv.cli.progress import TuningProgress
    from autokv.jobs.run import resume as resume_job
    from autokv.jobs.run import start

    screen = console()
    with stop_on_interrupt() as stop, TuningProgress(screen, request.trials if request else 0) as progress:
        finished = (
            start(request, url, output, progress, stop) if request else resume_job(resume, url, output, progress, stop)
        )
    screen.print(front_table(finished.result))
    screen.print(finished.result.reason, markup=False)
    for name, path in finished.files.items():
        screen.print(f"  {name:17} {path}", markup=False, soft_wrap=True)
    screen.print(f"  {'database':17} {url} (job {finished.job_id})", markup=False, soft_wrap=True)


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one interrupts at once."""
    stop = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        typer.echo("stopping after the prompt that is being judged; again to stop at once", err=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
