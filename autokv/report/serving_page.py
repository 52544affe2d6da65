"""The page of a simulated trace: queue, batch and KV memory over time, and the figures beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autokv.report import view
from autokv.report.environment import render
from autokv.report.format import span
from autokv.report.headline import served
from autokv.report.lines import Lines, Series
from autokv.report.plot import Figure
from autokv.report.serving_rows import table
from autokv.serving.comparison import Comparison
from autokv.serving.outcome import Timeline

POINTS = 240
"""Of a line: as many as a phone can tell apart."""
NEAR = 3.0
"""The capacity is drawn where it is less than this many times the highest peak; else the caption says it."""
_SIZES = ((1e9, "GB"), (1e6, "MB"), (0.0, "kB"))
Of = Callable[[Timeline], NDArray[np.int64] | NDArray[np.float64]]


def page(comparison: Comparison, facts: Mapping[str, str], notes: Sequence[str]) -> str:
    """The whole page; ``facts`` are named values such as the model and the device, ``notes`` sentences about them."""
    figures = comparison.to_dict()
    return render(
        "simulation.html.jinja",
        name=comparison.trace,
        remark=view.hedge(comparison.verdict, (*facts.values(), *notes)),
        headline=served(figures) or "Effect on your traffic",
        verdict=comparison.verdict,
        table=table(figures),
        over_time=_charts(comparison),
        facts=list(facts.items()),
        notes=notes,
    )


def _charts(comparison: Comparison) -> list[Figure]:
    runs = comparison.runs
    capacity = comparison.candidate.report.capacity_bytes
    peak = max(run.report.peak_kv_bytes for run in runs)
    scale, unit = next((least or 1e3, unit) for least, unit in _SIZES if peak >= least)
    near = capacity < NEAR * peak
    room = f"{capacity / scale:,.3g} {unit}" + (" (dashed line)" if near else "")
    waiting = lines(comparison, "requests waiting", lambda times: times.waiting)
    running = lines(comparison, "requests in flight", lambda times: times.running)
    level = (capacity / scale, "capacity") if near else None
    memory = lines(comparison, f"KV cache ({unit})", lambda times: times.kv_bytes / scale, level)
    queue = "Requests that wait to be scheduled. Lines are averages over iterations."
    held = f"All caches together, in whole blocks. Capacity: {room}. The peaks are in the table."
    return [
        waiting.figure("waiting", "Queue", queue),
        running.figure("running", "Batch", "Requests in prefill or decoding."),
        memory.figure("memory", "KV memory", held),
    ]


def lines(comparison: Comparison, name: str, of: Of, level: tuple[float, str] | None = None) -> Lines:
    """A line for each engine, the candidate's first."""
    timelines = [(run.name, run.outcome.timeline) for run in comparison.runs]
    longest = max((float(times.time_s[-1]) for _, times in timelines if len(times.time_s)), default=0.0)
    scale, unit = span(longest)
    series = tuple(
        Series(called, *_averages(times.time_s / scale, of(times), longest / scale)) for called, times in timelines
    )
    return Lines(series, unit, name, level=level, colors=("pick", "front", "soft"))


def _averages(
    time: NDArray[np.float64], values: NDArray[np.int64] | NDArray[np.float64], longest: float
) -> tuple[list[float], list[float]]:
    """Middles and means of the spans of time that have samples."""
    place = np.minimum((time * (POINTS / (longest or 1.0))).astype(np.int64), POINTS - 1)
    samples = np.bincount(place, minlength=POINTS)
    some = samples > 0
    means = np.bincount(place, weights=values, minlength=POINTS)[some] / samples[some].astype(np.float64)
    middles = (np.flatnonzero(some).astype(np.float64) + 0.5) * (longest / POINTS)
    return middles.tolist(), means.tolist()
