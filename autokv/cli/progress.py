"""The progress of a search: a live panel on a terminal, a line per batch anywhere else.

A job that runs elsewhere is followed to its end: its progress, its front, and the commands that come next.
"""

from __future__ import annotations

import shlex
import string
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autokv.cli.console import WIDTH, answer, front_table, output, plain, print_table
from autokv.cli.tables import short_model
from autokv.cli.tune import EXIT_NOTHING
from autokv.config import CompressionConfig
from autokv.errors import Interrupted
from autokv.evaluation.naming import label
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.format import duration, quantity
from autokv.wire import Event, JobView
from autokv.wire import Progress as Told

if TYPE_CHECKING:
    from autokv.cli.store import Store
    from autokv.tuning.search import Progress
    from autokv.tuning.trial import TrialRecord

ALIAS = frozenset(string.ascii_lowercase + string.digits + "._-")
"""Characters of an alias's name."""


class TuningProgress:
    """Shows trials done, front size, hypervolume, time and the last trial.

    A context manager; leaving it ends the panel. :meth:`trial` and :meth:`batch` are what
    :func:`autokv.tuning.search.search` calls as ``on_trial`` and ``on_progress``; :meth:`last` is for trials that ran
    elsewhere.

    Args:
        console: where to.
        total: trials that are wanted; 0 where the first batch will tell.
        clock: seconds that never run backwards.
    """

    def __init__(self, console: Console, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._reported = clock()
        self._progress: Progress | Told = Told(phase="", trials_total=total)
        self._last = "preparing"
        self._doing = ""
        live = console.is_terminal and not console.is_dumb_terminal and not console.quiet
        self._live = Live(get_renderable=self.panel, console=console, refresh_per_second=4) if live else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def trial(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self.last(trial_line(record))

    def last(self, line: str) -> None:
        """What happened last, in a line."""
        self._last = plain(line)

    def batch(self, progress: Progress | Told) -> None:
        """A batch has ended."""
        self._progress, self._reported = progress, self._clock()
        searched = bool(progress.trials_total) and progress.trials_done >= progress.trials_total
        self._doing = "confirming the front" if searched else ""
        if self._live is None:
            self._print(f"{self._count()} · {self._state()} · {self._time()} · {self._last}")

    def say(self, text: str) -> None:
        """Print a line, above the panel where there is one: what is being done until the next batch has ended."""
        self._doing = plain(text)
        self._print(text)

    def panel(self) -> Panel:
        """The panel as it stands now; between two batches its clock goes on."""
        progress = self._progress
        bar = ProgressBar(total=max(1, progress.trials_total), completed=progress.trials_done)
        head = Table.grid(expand=True)
        head.add_column(justify="left")
        head.add_column(justify="right")
        head.add_row(Text(self._count(), style="bold"), Text(self._time(), style="dim"))
        last = Text(self._doing or self._last, overflow="ellipsis", no_wrap=True)
        track = Table.grid(expand=True)
        track.add_row(bar)  # a bar alone ends no line
        body = Group(head, track, Text(self._state(), overflow="ellipsis", no_wrap=True), last)
        width = min(self._console.width, WIDTH)
        return Panel(body, title="tuning", title_align="left", width=width, border_style="dim")

    def _print(self, text: str) -> None:
        self._console.print(Text(plain(text)), soft_wrap=True)

    def _count(self) -> str:
        done, total = self._progress.trials_done, self._progress.trials_total
        return f"trial {done} of {total}" if total else "starting"

    def _state(self) -> str:
        progress = self._progress
        parts = [f"front {progress.front_size}", f"hypervolume {progress.hypervolume:.3f}"]
        parts += [f"{progress.infeasible} infeasible"] if progress.infeasible else []
        parts += [f"{progress.failed} failed"] if progress.failed else []
        return " · ".join(parts)

    def _time(self) -> str:
        since = self._clock() - self._reported
        # The pace so far says nothing of what comes behind the search, nor of a batch that takes longer.
        left = 0.0 if self._doing else (self._progress.seconds_left or 0.0) - since
        about = f", about {duration(left)} left" if left > 0 else ""
        return f"{duration(self._progress.seconds + since)}{about}"


def trial_line(trial: TrialRecord) -> str:
    """One trial in a line: its configuration and its figures, or why it has none."""
    measured = trial.measurement
    figures = None if measured is None else {name: one.mean for name, one in measured.metrics.items()}
    return _line(trial.config, figures, trial.state, trial.reason)


def told_line(data: Mapping[str, Any]) -> str:
    """The same of a ``trial`` event."""
    config = CompressionConfig.parse(data["config"]) if data.get("config") else None
    return _line(config, data.get("metrics"), str(data.get("state")), data.get("reason"))


def _line(
    config: CompressionConfig | None, figures: Mapping[str, float | None] | None, state: str, reason: str | None
) -> str:
    name = describe(config) if config else "no configuration"
    if figures is None:
        return plain(f"{name}: {state}, {reason or 'no reason recorded'}")
    shown = [
        quantity(metric, value) if metric == view.BYTES else f"{label(metric)} {quantity(metric, value)}"
        for metric in ("kl_divergence", view.BYTES, view.TIME if view.TIME in figures else "tpot_ms")
        if (value := figures.get(metric)) is not None
    ]
    return plain(f"{name}: {', '.join(shown) or state}")


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
        told = Told.model_validate(data)
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
