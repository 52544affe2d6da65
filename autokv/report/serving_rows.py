"""A comparison of servers as the rows of a table: one list of figures for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autokv.report.format import MISSING, number
from autokv.serving.comparison import Comparison

SECONDS_FROM = 1e4
"""Milliseconds from which times are given in seconds."""
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


def rows(comparison: Mapping[str, Any]) -> tuple[Row, ...]:
    """What there is to compare in a comparison's document; a figure that every run has as 0 or not is left out."""
    runs = comparison["runs"]
    found = [_row(name, unit, [of(run) for run in runs]) for name, unit, of in _FIGURES]
    return tuple(row for row in found if row.name in _ALWAYS or any(row.values))


def _row(name: str, unit: str, values: Sequence[float | None]) -> Row:
    """Long times in seconds."""
    if unit == "ms" and max((value or 0.0 for value in values), default=0.0) >= SECONDS_FROM:
        return Row(name, "s", tuple(None if value is None else value / 1e3 for value in values))
    return Row(name, unit, tuple(values))


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


def sentence(text: str) -> str:
    """``text`` with a full stop and, unless it begins with a name such as ``fp8``, a capital."""
    named = any(character.isdigit() for character in text.partition(" ")[0])
    return f"{text}." if named else f"{text[:1].upper()}{text[1:]}."


def _text(value: float, unit: str) -> str:
    if unit == COUNT:
        return f"{value:,.0f}"
    if unit == "%":
        return f"{value:.0f}" if value >= 10 or not value else f"{value:.1g}"
    return number(value)


Of = Callable[[Mapping[str, Any]], float | None]


def _percentile(metric: str, percentile: str) -> Of:
    def of(run: Mapping[str, Any]) -> float | None:
        value: float | None = run[metric].get(percentile)
        return value

    return of


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_FIGURES: tuple[tuple[str, str, Of], ...] = (
    ("requests that fit at once", "", lambda run: run["concurrent_requests"]),
    ("time to first token, p50", "ms", _percentile("ttft_ms", "p50")),
    ("time to first token, p95", "ms", _percentile("ttft_ms", "p95")),
    ("time per output token, p50", "ms", _percentile("tpot_ms", "p50")),
    ("time per output token, p95", "ms", _percentile("tpot_ms", "p95")),
    ("whole request, p95", "ms", _percentile("e2e_ms", "p95")),
    ("throughput", "tokens/s", lambda run: run["throughput_tokens_per_s"]),
    ("goodput", "requests/s", lambda run: run["goodput_requests_per_s"]),
    ("within the SLO", "%", lambda run: _percent(run["slo_attainment"])),
    ("sustained rate", "requests/s", lambda run: run["max_rate"] and run["max_rate"]["requests_per_s"]),
    ("peak KV memory", "%", lambda run: _percent(run["peak_kv_bytes"] / run["capacity_bytes"])),
    ("most requests in flight", COUNT, lambda run: run["max_running"]),
    ("device busy", "%", lambda run: _percent(run["utilization"])),
    ("preemptions", COUNT, lambda run: run["preemptions"]),
    ("requests refused", COUNT, lambda run: run["refused"]),
    ("prompt tokens shared", "%", lambda run: _percent(run["cached_share"])),
)
_ALWAYS = frozenset({"goodput", "within the SLO", "peak KV memory"})
