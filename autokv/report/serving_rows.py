"""A comparison of servers as the rows of a table: one list of figures for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autokv.report.format import MISSING, number
from autokv.serving.comparison import Comparison, Run

COUNT = "count"
"""Unit of what comes in whole numbers."""


@dataclass(frozen=True)
class Row:
    """One figure of every run."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    """In the order of the comparison's runs."""

    @property
    def title(self) -> str:
        """Name and unit."""
        return self.name if self.unit in ("", COUNT) else f"{self.name} ({self.unit})"

    @property
    def texts(self) -> tuple[str, ...]:
        """As a person reads them; counts and percents from 10 on without decimals."""
        return tuple(MISSING if value is None else _text(value, self.unit) for value in self.values)


def rows(comparison: Comparison) -> tuple[Row, ...]:
    """What there is to compare; a figure that is 0 or missing for every run is left out."""
    runs = comparison.runs
    found = [Row(name, unit, tuple(of(run) for run in runs)) for name, unit, of in _FIGURES]
    return tuple(row for row in found if row.name in _ALWAYS or any(row.values))


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
        about.setdefault(f"cannot serve here: {why}", []).append(name)
    everybody = len(comparison.runs)
    return (
        slo,
        *(note if len(names) == everybody else f"{', '.join(names)}: {note}" for note, names in about.items()),
    )


def sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _text(value: float, unit: str) -> str:
    if unit == COUNT:
        return f"{value:,.0f}"
    if unit == "%":
        return f"{value:.0f}" if value >= 10 or not value else f"{value:.1g}"
    return number(value)


def _percentile(metric: str, percentile: str) -> Callable[[Run], float | None]:
    def of(run: Run) -> float | None:
        values: dict[str, float] = getattr(run.report, metric)
        return values.get(percentile)

    return of


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_FIGURES: tuple[tuple[str, str, Callable[[Run], float | None]], ...] = (
    ("requests that fit at once", "", lambda run: run.concurrent_requests),
    ("time to first token, p50", "ms", _percentile("ttft_ms", "p50")),
    ("time to first token, p95", "ms", _percentile("ttft_ms", "p95")),
    ("time per output token, p50", "ms", _percentile("tpot_ms", "p50")),
    ("time per output token, p95", "ms", _percentile("tpot_ms", "p95")),
    ("whole request, p95", "ms", _percentile("e2e_ms", "p95")),
    ("throughput", "tokens/s", lambda run: run.report.throughput_tokens_per_s),
    ("goodput", "requests/s", lambda run: run.report.goodput_requests_per_s),
    ("within the SLO", "%", lambda run: _percent(run.report.slo_attainment)),
    ("sustained rate", "requests/s", lambda run: None if run.max_rate is None else run.max_rate.requests_per_s),
    ("peak KV memory", "%", lambda run: _percent(run.report.peak_kv_bytes / run.report.capacity_bytes)),
    ("most requests in flight", COUNT, lambda run: run.report.max_running),
    ("device busy", "%", lambda run: _percent(run.report.utilization)),
    ("preemptions", COUNT, lambda run: run.report.preemptions),
    ("requests refused", COUNT, lambda run: run.report.refused),
    ("prompt tokens shared", "%", lambda run: _percent(run.report.cached_share)),
)
_ALWAYS = frozenset({"goodput", "within the SLO", "peak KV memory"})
