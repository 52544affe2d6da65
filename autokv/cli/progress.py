"""The progress of a search: a live panel on a terminal, a line per batch anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autokv.cli.console import WIDTH, plain
from autokv.config import CompressionConfig
from autokv.evaluation.naming import label
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.format import duration, quantity
from autokv.wire import Progress as Told

if TYPE_CHECKING:
    from autokv.tuning.search import Progress
    from autokv.tuning.trial import TrialRecord


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
