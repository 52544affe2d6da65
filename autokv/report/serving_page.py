"""The page of a simulated trace: queue, batch and KV memory over time, and the figures beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autokv.report.document import document, place
from autokv.report.html import Markup, join, tag
from autokv.report.parts import Figure, layout, line, note, plain_axis, short
from autokv.report.serving_rows import sentence
from autokv.report.serving_section import comparison_table
from autokv.serving.comparison import Comparison, Run
from autokv.serving.outcome import Timeline

COLORS = ("var(--pick)", "var(--front)", "var(--soft)")
"""Of the candidate, of 16 bits and of fp8."""
POINTS = 240
"""Of a line: as many as a phone can tell apart."""
NEAR = 3.0
"""The capacity is drawn where it is less than this many times the highest peak; else the caption says it."""
_SPANS = (
    (2 * 86400.0, 86400.0, "days"),
    (2 * 3600.0, 3600.0, "hours"),
    (300.0, 60.0, "minutes"),
    (0.0, 1.0, "seconds"),
)
_SIZES = ((1e9, "GB"), (1e6, "MB"), (0.0, "kB"))


def page(comparison: Comparison, facts: Mapping[str, str], notes: Sequence[str]) -> str:
    """The whole page; ``facts`` are named values such as the model and the device, ``notes`` sentences about them."""
    figures: dict[str, Figure] = {}
    body = join(
        tag("header", tag("p", join("AutoKV serving · ", tag("b", comparison.trace)), class_="site")),
        tag(
            "section",
            join(tag("h1", "What it buys on this trace"), tag("p", sentence(comparison.verdict), class_="lead")),
            class_="answer",
        ),
        tag("section", join(tag("h2", "Figures"), comparison_table(comparison.to_dict()))),
        tag("section", join(tag("h2", "Over time"), _legend(comparison), *_charts(comparison, figures))),
        tag("section", join(tag("h2", "What this rests on"), _facts(facts), _notes(notes))),
    )
    return document(f"AutoKV: {comparison.trace}", body, figures)


def _legend(comparison: Comparison) -> Markup:
    names = [tag("b", run.name, style=f"color:{color}") for run, color in zip(comparison.runs, COLORS, strict=False)]
    parts = [part for name in names for part in (Markup(" · "), name)][1:]
    return tag("p", join(*parts), class_="note")


def _charts(comparison: Comparison, figures: dict[str, Figure]) -> list[Markup]:
    runs = comparison.runs
    capacity = comparison.candidate.report.capacity_bytes
    peak = max(run.report.peak_kv_bytes for run in runs)
    scale, unit = next((least or 1e3, unit) for least, unit in _SIZES if peak >= least)
    drawn = capacity / scale if capacity < NEAR * peak else None
    room = f"{capacity / scale:,.3g} {unit} are there for it" + ("." if drawn is None else ", the dotted line.")
    return [
        place(
            figures,
            "waiting",
            _chart(runs, "requests waiting", lambda times: times.waiting),
            "Queue",
            "Requests that have arrived and hold no memory; here and below, averages over iterations.",
        ),
        place(
            figures,
            "running",
            _chart(runs, "requests in flight", lambda times: times.running),
            "Batch",
            "Requests that are being prefilled or decoded.",
        ),
        place(
            figures,
            "memory",
            _chart(runs, f"KV cache ({unit})", lambda times: times.kv_bytes / scale, drawn),
            "KV memory",
            f"Bytes of all caches, in whole pages; {room} The peaks are in the table.",
        ),
    ]


def _chart(
    runs: tuple[Run, ...],
    name: str,
    of: Callable[[Timeline], NDArray[np.int64] | NDArray[np.float64]],
    capacity: float | None = None,
) -> Figure:
    longest = max(
        (float(run.outcome.timeline.time_s[-1]) for run in runs if len(run.outcome.timeline.time_s)), default=0
    )
    scale, unit = next((scale, unit) for least, scale, unit in _SPANS if longest >= least)
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            **_averages(run.outcome.timeline.time_s / scale, of(run.outcome.timeline), longest / scale),
            "name": run.name,
            "line": {"color": color, "width": 1.5},
            "hovertemplate": f"%{{y:,.4~g}} {name}<br>after %{{x:,.4~g}} {unit}<extra>%{{fullData.name}}</extra>",
        }
        for run, color in reversed(list(zip(runs, COLORS, strict=False)))
    ]
    figure: Figure = {
        "data": traces,
        "layout": {
            **layout(250, left=64),
            "xaxis": {**plain_axis(unit), "showgrid": False},
            "yaxis": {**plain_axis(name), "rangemode": "tozero", "nticks": 5},
            "shapes": [],
            "annotations": [],
        },
    }
    if capacity is not None:
        figure["layout"]["shapes"] = [line("y", capacity, {"color": "var(--soft)", "width": 1, "dash": "dot"})]
        above = note("capacity", 1, capacity, xanchor="right", yshift=9, color="var(--soft)")
        figure["layout"]["annotations"] = [{**above, "xref": "paper"}]
    return figure


def _averages(
    time: NDArray[np.float64], values: NDArray[np.int64] | NDArray[np.float64], longest: float
) -> dict[str, list[float]]:
    """Means over the samples of every span of time; a span without any is left out."""
    span = np.minimum((time * (POINTS / (longest or 1.0))).astype(np.int64), POINTS - 1)
    samples = np.bincount(span, minlength=POINTS)
    some = samples > 0
    means = np.bincount(span, weights=values, minlength=POINTS)[some] / samples[some].astype(np.float64)
    middles = (np.flatnonzero(some).astype(np.float64) + 0.5) * (longest / POINTS)
    return {"x": short(middles), "y": short(means)}


def _facts(facts: Mapping[str, str]) -> Markup:
    return tag("dl", join(*(join(tag("dt", name), tag("dd", value)) for name, value in facts.items())))


def _notes(notes: Sequence[str]) -> Markup:
    return tag("ul", join(*(tag("li", sentence(note)) for note in notes)), class_="note")
