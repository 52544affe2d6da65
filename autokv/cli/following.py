"""A job followed to its end: its progress, its front, and the commands that come next."""

from __future__ import annotations

import shlex
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from autokv.cli.console import answer, front_table, output, print_table
from autokv.cli.progress import TuningProgress, told_line
from autokv.cli.tables import short_model
from autokv.cli.tune import EXIT_NOTHING
from autokv.errors import Interrupted
from autokv.wire import Event, JobView, Progress

if TYPE_CHECKING:
    from autokv.cli.store import Store

ALIAS = frozenset(string.ascii_lowercase + string.digits + "._-")
"""Characters of an alias's name."""


def watch_job(store: Store, job: JobView) -> None:
    """Follow a job and say what can be done with what it found.

    Raises:
        typer.Exit: 1 where it has not ended well, 3 where it recommends nothing.
        Interrupted: by Ctrl-C; the job goes on.
    """
    say_who_is_missing(job)
    try:
        ended = follow(store, job.id, output())
    except KeyboardInterrupt:
        again = shlex.join(["autokv", "jobs", "watch", job.id, *store.option])
        raise Interrupted(f"job {job.id} goes on", remedy=f"see it with `{again}`") from None
    if ended.state != "done":
        raise typer.Exit(1)
    if ended.recommended is None:
        raise typer.Exit(EXIT_NOTHING)
    for what, command in _next_commands(ended, ended.recommended, store.option):
        typer.echo(f"{what}: {command}")


def follow(store: Store, job_id: str, console: Console) -> JobView:
    """Show what happens to a job until it has ended, and its front if it has one."""
    job = store.jobs.get(job_id)
    wanted = int(job.request.get("trials", 0))
    with TuningProgress(console, wanted) as progress:
        if job.queue is not None and job.queue.position > 1:
            progress.say(f"job {job.id} is number {job.queue.position} in the queue")
        job = store.wait(job.id, lambda event: _show(event, progress))
    result = store.result(job) if job.state == "done" else None
    if result is not None:
        print_table(console, front_table(result))
        console.print("\n".join(answer(result)), markup=False, soft_wrap=True)
    console.print(f"{job.state}: {job.reason or 'no reason is told'}", markup=False)
    return job


def say_who_is_missing(job: JobView) -> None:
    """Say so where no worker is there that could run a job."""
    for condition in job.conditions:
        if condition.type == "WorkerAvailable" and not condition.status:
            typer.echo(condition.message, err=True)


def _show(event: Event, progress: TuningProgress) -> None:
    data = event.data
    if event.kind == "message":
        progress.say(str(data.get("text", "")))
    elif event.kind == "trial":
        progress.last(told_line(data))
    elif event.kind == "progress":
        told = Progress.model_validate(data)
        if told.phase == "searching":
            progress.batch(told)
    elif event.kind == "started":
        progress.say(f"attempt {data.get('attempt')} runs")
    elif event.kind in {"released", "crashed", "lost"}:
        progress.say(f"attempt {data.get('attempt')} {event.kind}: {data.get('reason')}")


def _next_commands(job: JobView, recommended: str, option: list[str]) -> Iterator[tuple[str, str]]:
    """What can be done with what a job found, each a line that runs as it stands."""
    model = "".join(c if c in ALIAS else "-" for c in short_model(str(job.request["model"])).lower())
    name = model[:100].strip("._-") or "recommended"
    yield "all files", shlex.join(["autokv", "jobs", "download", job.id, *option])
    yield "recommended", shlex.join(["autokv", "configs", "download", recommended, *option])
    yield "as alias", shlex.join(["autokv", "aliases", "set", name, recommended, *option])
