"""``autokv tune``: search, confirm, recommend; and go on where a run was stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from autokv import settings
from autokv.cli.values import bounds, byte_size
from autokv.errors import RequestError
from autokv.tuning.request import TuningRequest, read_request_file

RESULTS = Path("autokv-results")


def tune(
    request_file: Annotated[
        Path | None, typer.Argument(help="YAML file with the same fields.", metavar="[FILE]")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hugging Face id, local folder or GGUF file.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="Trace of your traffic: what is served, and its lengths.")
    ] = None,
    hardware: Annotated[str | None, typer.Option(help="Device to serve on: here, a catalog's name, a file.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second, instead of the trace's own.")] = None,
    slo: Annotated[list[str] | None, typer.Option(help="ttft_ms=VALUE or tpot_ms=VALUE; repeat for both.")] = None,
    kv_memory: Annotated[str | None, typer.Option(help="Memory for KV caches, such as 2GiB.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Deployment scenario, instead of what the trace says.")] = None,
    text: Annotated[str | None, typer.Option(help="Text file, cut into samples.")] = None,
    prompts: Annotated[str | None, typer.Option(help="JSONL file: prompt, optional completion.")] = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="Five kinds of generated tasks, in turn.")] = False,
    space: Annotated[str | None, typer.Option(help="Search space: a name or a YAML file.")] = None,
    objective: Annotated[list[str] | None, typer.Option(help="Metric to optimise; repeat for more.")] = None,
    maximum: Annotated[list[str] | None, typer.Option("--max", help="METRIC=VALUE: at most; repeat for more.")] = None,
    minimum: Annotated[list[str] | None, typer.Option("--min", help="METRIC=VALUE: at least; repeat for more.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, nsgaii, gp or random.")] = None,
    trials: Annotated[int | None, typer.Option(help="Candidates to run.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Candidates that run together.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Stop the search after this many seconds.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after this many trials without gain.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling and of generated tasks.")] = None,
    samples: Annotated[int | None, typer.Option(help="Calibration prompts.")] = None,
    validation_samples: Annotated[int | None, typer.Option(help="Validation prompts.")] = None,
    context_tokens: Annotated[int | None, typer.Option(help="Context length, without a workload.")] = None,
    max_context_tokens: Annotated[int | None, typer.Option(help="No context is longer than this.")] = None,
    continuation_tokens: Annotated[int | None, typer.Option(help="Tokens judged after each context.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = RESULTS,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the database.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this job.", metavar="JOB")] = None,
) -> None:
    """Search for the best compression of a model's KV cache, and recommend one configuration."""
    options: dict[str, Any] = {
        "model": model,
        "workload": workload,
        "hardware": hardware,
        "rate": rate,
        "slo": bounds(slo, "--slo"),
        "kv_memory": None if kv_memory is None else byte_size(kv_memory, "--kv-memory"),
        "scenario": scenario,
        "text": text,
        "prompts": prompts,
        "tasks": tasks or None,
        "space": space,
        "objectives": objective,
        "maximums": bounds(maximum, "--max"),
        "minimums": bounds(minimum, "--min"),
        "sampler": sampler,
        "trials": trials,
        "batch_size": batch_size,
        "timeout": timeout,
        "patience": patience,
        "seed": seed,
        "samples": samples,
        "validation_samples": validation_samples,
        "context_tokens": context_tokens,
        "max_context_tokens": max_context_tokens,
        "continuation_tokens": continuation_tokens,
        "dtype": dtype,
        "device": device,
    }
    given = {name: value for name, value in options.items() if value is not None}
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
