"""A comparison of engines as the rows of a table: one list of figures for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autokv.report import view
from autokv.report.changes import Change, factor, points
from autokv.report.format import MISSING, number
from autokv.serving.comparison import Comparison
from autokv.serving.verdict import SAME

SECONDS_FROM = 1e4
"""Milliseconds from which times are given in seconds."""
POINTS = 1.0
"""Percentage points up to which shares are the same."""
COUNT = "count"
"""Unit of what comes in whole numbers."""


@dataclass(frozen=True)
class Row:
    """One figure of every run."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    """In the order of the comparison's runs."""
    better: int = 0
    """1 where more is better, -1 where less is, 0 where neither can be said."""

    @property
    def title(self) -> str:
        """Name and unit."""
        return self.name if self.unit in ("", COUNT) else f"{self.name} ({self.unit})"

    @property
    def texts(self) -> tuple[str, ...]:
        """As a person reads them; counts and percents from 10 on without decimals."""
        return tuple(MISSING if value is None else _text(value, self.unit) for value in self.values)

    def change(self, full: int) -> Change:
        """How the first run compares with the one at ``full``, and whether that is better or worse."""
        new, old = self.values[0], self.values[full]
        if not self.better or new is None or old is None:
            return Change(MISSING)
        if abs(new - old) <= (POINTS if self.unit == "%" else SAME * abs(old)):
            return Change("", "same")
        amount = points(new - old) if self.unit == "%" else factor(new / old) if old else ""
        return Change(amount, "better" if (new > old) == (self.better > 0) else "worse")


@dataclass(frozen=True)
class Table:
    """The figures of every run, with their names above them."""

    names: tuple[str, ...]
    full: int | None
    """Which of them is the 16-bit cache; ``None`` where it is the first or missing."""
    rows: tuple[Row, ...]


def table(comparison: Mapping[str, Any]) -> Table:
    """The table of a comparison's document: a row per figure, the first run's with its change."""
    names = tuple(str(run["name"]) for run in comparison["runs"])
    return Table(names, names.index(view.FULL) if view.FULL in names[1:] else None, rows(comparison))


def rows(comparison: Mapping[str, Any]) -> tuple[Row, ...]:
    """What there is to compare in a comparison's document; a figure that every run has as 0 or not is left out."""
    runs = comparison["runs"]
    found = [_row(name, unit, [of(run) for run in runs], better) for name, unit, better, of in _FIGURES]
    return tuple(row for row in found if row.name in _ALWAYS or any(row.values))


def _row(name: str, unit: str, values: Sequence[float | None], better: int) -> Row:
    """Long times in seconds."""
    if unit == "ms" and max((value or 0.0 for value in values), default=0.0) >= SECONDS_FROM:
        return Row(name, "s", tuple(None if value is None else value / 1e3 for value in values), better)
    return Row(name, unit, tuple(values), better)


def remarks(comparison: Comparison) -> tuple[str, ...]:
    """What a reader of the figures must know, a line each; what holds of every run is said once."""
    slo = f"goodput counts requests within {comparison.slo}"
    if comparison.slo_is_default:
        slo += ": five times what an idle server takes, since no SLO was given"
    about: dict[str, list[str]] = {}
    for run in comparison.runs:
        for note in run.report.notes:
            about.setdefault(note, []).append(run.name)
    for name, why in comparison.impossible.items():
        about.setdefault(f"cannot serve: {why}", []).append(name)
    everybody = len(comparison.runs)
    return (
        slo,
        *(note if len(names) == everybody else f"{', '.join(names)}: {note}" for note, names in about.items()),
    )


def _text(value: float, unit: str) -> str:
    if unit == COUNT:
        return f"{value:,.0f}"
    if unit == "%":
        return f"{value:.0f}" if value >= 10 or not value else f"{value:.1g}"
    return number(value)


Of = Callable[[Mapping[str, Any]], float | None]


def _percentile(metric: str, percentile: str) -> Of:
    return lambda run: run[metric].get(percentile)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_FIGURES: tuple[tuple[str, str, int, Of], ...] = (
    ("requests that fit at once", "", 1, lambda run: run["concurrent_requests"]),
    ("time to first token, p50", "ms", -1, _percentile("ttft_ms", "p50")),
    ("time to first token, p95", "ms", -1, _percentile("ttft_ms", "p95")),
    ("time per output token, p50", "ms", -1, _percentile("tpot_ms", "p50")),
    ("time per output token, p95", "ms", -1, _percentile("tpot_ms", "p95")),
    ("whole request, p95", "ms", -1, _percentile("e2e_ms", "p95")),
    ("throughput", "tokens/s", 1, lambda run: run["throughput_tokens_per_s"]),
    ("goodput", "requests/s", 1, lambda run: run["goodput_requests_per_s"]),
    ("within the SLO", "%", 1, lambda run: _percent(run["slo_attainment"])),
    ("sustained rate", "requests/s", 1, lambda run: run["max_rate"] and run["max_rate"]["requests_per_s"]),
    ("peak KV memory", "%", -1, lambda run: _percent(run["peak_kv_bytes"] / run["capacity_bytes"])),
    ("most requests in flight", COUNT, 0, lambda run: run["max_running"]),
    ("device busy", "%", -1, lambda run: _percent(run["utilization"])),
    ("preemptions", COUNT, -1, lambda run: run["preemptions"]),
    ("requests refused", COUNT, -1, lambda run: run["refused"]),
    ("prompt tokens shared", "%", 0, lambda run: _percent(run["cached_share"])),
)
_ALWAYS = frozenset({"goodput", "within the SLO", "peak KV memory"})
