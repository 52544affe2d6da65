"""The interactive charts of the page, as plotly figures in plain dictionaries.

Colours are names of the page's CSS properties (``var(--front)``); the page's script puts in their values, so that the
charts follow the reader's light or dark scheme. Every text that plotly would read as markup is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.format import label, number, quantity, title
from autokv.report.parts import Figure, layout, line, note, plain_axis
from autokv.report.projection import Mark, Projection
from autokv.report.scale import Scale
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import FrontPoint, TuningResult

NOMINAL = (300.0, 270.0)
"""Plot size, in pixels, for which labels are placed: the narrowest that is common, a phone's."""
ANCHORS = {"start": "left", "middle": "center", "end": "right"}
HOVER_METRICS = ("kl_divergence", view.BYTES, "compression_ratio", view.TIME, "top1_agreement", "task_score")


def projection_chart(projection: Projection, sources: Mapping[str, str]) -> Figure:
    """Trials faint, the front joined, roles and the 16-bit cache labelled. ``sources`` maps a digest to its trial."""
    pick = [mark for mark in projection.front if "recommended" in mark.roles]
    named = [mark for mark in projection.front if mark.roles and mark not in pick]
    rest = [mark for mark in projection.front if not mark.roles]
    traces = [
        _marks(projection, projection.trials, sources, {"color": "var(--trial)", "size": 7}),
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _ in projection.line],
            "y": [projection.y.clamp(y) for _, y in projection.line],
            "line": {"color": "var(--front)", "width": 1.5, "shape": "hv"},
            "hoverinfo": "skip",
        },
        _marks(projection, rest, sources, {"color": "var(--front)", "size": 9}),
        _marks(projection, named, sources, {"color": "var(--ground)", "size": 13, "line": _ring("var(--front)")}),
        _marks(projection, named, sources, {"color": "var(--front)", "size": 8}),
        _marks(projection, pick, sources, {"color": "var(--pick)", "size": 15, "symbol": "diamond"}),
    ]
    shapes = [_limit_line(limit, projection) for limit in projection.limits]
    if projection.baseline is not None:
        x, y = projection.baseline
        if y is None:
            shapes.append(line("x", x, {"color": "var(--soft)", "width": 1, "dash": "dash"}))
        else:
            cross = {"symbol": "cross-thin", "size": 11, "line": {"color": "var(--soft)", "width": 2}}
            text = f"16-bit cache<br>{_value(view.BYTES, x)}<br>{_value(projection.y.metric, y)}"
            traces.append({**_points([x], [y], [text]), "marker": cross})
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": {
            **layout(330),
            "xaxis": {**_axis(projection.x, most=5, text=title(projection.x.metric)), "showgrid": False},
            "yaxis": _axis(projection.y),
            "shapes": shapes,
            "annotations": [*_limit_texts(projection), *_labels(projection)],
        },
    }


def hypervolume_chart(result: TuningResult) -> Figure:
    """Normalised hypervolume after each trial, with the end of the known settings marked."""
    values = list(result.hypervolume)
    numbers = list(range(1, len(values) + 1))
    known = sum(trial.source.startswith("literature") for trial in result.trials)
    shapes, notes = [], []
    if values:
        notes.append(
            note(number(values[-1]), numbers[-1], values[-1], xanchor="right", yshift=11, color="var(--front)")
        )
    if 0 < known < len(values):
        late = known > len(values) / 2
        shapes.append(line("x", known + 0.5, {"color": "var(--soft)", "width": 1, "dash": "dot"}))
        text = "known settings end" if late else "after the known settings"
        after = note(text, known + 0.5, 0.04, xanchor="right" if late else "left", color="var(--soft)")
        notes.append({**after, "yref": "paper", "xshift": -5 if late else 5})
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": numbers,
                "y": values,
                "line": {"color": "var(--front)", "width": 2, "shape": "hv"},
                "hovertemplate": "after trial %{x}<br>hypervolume %{y:.3f}<extra></extra>",
            }
        ],
        "layout": {
            **layout(240),
            "xaxis": {**plain_axis("trials"), "showgrid": False},
            "yaxis": {**plain_axis(""), "rangemode": "tozero", "nticks": 5},
            "shapes": shapes,
            "annotations": notes,
        },
    }


def samples_chart(splits: Mapping[str, Measurement], metric: str) -> Figure:
    """One dot per sample and a bar at the mean, a row for each of ``splits``."""
    rows = list(splits)
    found = {
        name: [sample for sample in measurement.samples if sample.get(metric) is not None]
        for name, measurement in splits.items()
    }
    scale = Scale.over(metric, [sample[metric] for samples in found.values() for sample in samples])
    traces, shapes, notes = [], [], []
    for row, name in enumerate(rows):
        texts = [_sample_text(sample, metric) for sample in found[name]]
        x = [scale.clamp(sample[metric]) for sample in found[name]]
        color = "var(--pick)" if name == "validation" else "var(--front)"
        marker = {"color": color, "size": 10, "opacity": 0.65}
        traces.append({**_points(x, [row] * len(x), texts), "marker": marker})
        mean = view.mean(splits[name], metric)
        if mean is not None:
            shapes.append(
                {
                    "type": "line",
                    "x0": scale.clamp(mean),
                    "x1": scale.clamp(mean),
                    "y0": row - 0.28,
                    "y1": row + 0.28,
                    "line": {"color": color, "width": 2},
                }
            )
            notes.append(
                note(f"mean {number(mean)}", _place(scale, mean), row, xanchor="center", yshift=38, color=color)
            )
    return {
        "data": traces,
        "layout": {
            **layout(90 + 105 * len(rows), left=84),
            "xaxis": _axis(scale, text=title(metric)),
            "yaxis": {
                **plain_axis(""),
                "range": [len(rows) - 0.4, -0.6],
                "tickvals": list(range(len(rows))),
                "ticktext": [escape(name) for name in rows],
                "showgrid": False,
            },
            "shapes": shapes,
            "annotations": notes,
        },
    }


def sources(result: TuningResult) -> dict[str, str]:
    """Digest to ``trial 12, tpe``."""
    return {
        trial.config.digest: f"trial {trial.number}, {trial.source}"
        for trial in reversed(result.trials)
        if trial.config is not None
    }


def confirmed(point: FrontPoint | None) -> dict[str, Measurement]:
    """The splits that a point was measured on."""
    if point is None:
        return {}
    both = {"calibration": point.calibration, "validation": point.validation}
    return {name: measurement for name, measurement in both.items() if measurement is not None}


def _axis(scale: Scale, most: int = 6, text: str = "") -> Figure:
    ticks = scale.ticks(most)
    return {
        **plain_axis(text),
        "type": "log" if scale.log else "linear",
        "range": [_place(scale, scale.low), _place(scale, scale.high)],
        "tickvals": ticks,
        "ticktext": [scale.tick_text(value) for value in ticks],
    }


def _place(scale: Scale, value: float) -> float:
    """Where plotly wants ranges and annotations of this axis: a logarithm on a logarithmic one."""
    return math.log10(scale.clamp(value)) if scale.log else value


def _points(x: Sequence[float], y: Sequence[float], texts: Sequence[str]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": list(x),
        "y": list(y),
        "text": list(texts),
        "hovertemplate": "%{text}<extra></extra>",
    }


def _marks(projection: Projection, marks: Sequence[Mark], sources: Mapping[str, str], marker: Figure) -> Figure:
    x = [projection.x.clamp(mark.x) for mark in marks]
    y = [projection.y.clamp(mark.y) for mark in marks]
    return {**_points(x, y, [_mark_text(mark, sources) for mark in marks]), "marker": marker}


def _ring(color: str) -> Figure:
    return {"color": color, "width": 1.5}


def _mark_text(mark: Mark, sources: Mapping[str, str]) -> str:
    """Name and metrics of a configuration, in plotly's markup."""
    config = mark.measurement.config
    head = f"<b>{escape(describe(config))}</b>"
    called = f" · {escape(', '.join(mark.roles))}" if mark.roles else ""
    values = [
        f"{escape(label(name))} {_value(name, mark.measurement.value(name))}"
        for name in HOVER_METRICS
        if name in mark.measurement.metrics
    ]
    foot = f"{escape(sources.get(config.digest, ''))} · {mark.split} · {config.digest[:12]}"
    return "<br>".join([head + called, *values, foot])


def _sample_text(sample: Mapping[str, Any], metric: str) -> str:
    context = f", {sample['context_tokens']:,} tokens" if "context_tokens" in sample else ""
    return f"{escape(str(sample.get('id', 'sample')))}{context}<br>{_value(metric, sample[metric])}"


def _value(metric: str, value: float) -> str:
    return escape(quantity(metric, value))


def _limit_line(limit: Constraint, projection: Projection) -> Figure:
    axis = "y" if limit.metric == projection.y.metric else "x"
    return line(axis, limit.limit, {"color": "var(--pick)", "width": 1, "dash": "dot"})


def _limit_texts(projection: Projection) -> Iterable[Figure]:
    """What a limit says, on the side of its line where the front cannot be."""
    for limit in projection.limits:
        color = "var(--pick-ink)"
        if limit.metric == projection.y.metric:
            y = _place(projection.y, limit.limit)
            yield {
                **note(view.bound(limit), 0, y, xanchor="left", yshift=-9 if limit.kind == "max" else 9, color=color),
                "xref": "paper",
            }
        else:
            x = _place(projection.x, limit.limit)
            yield {**note(view.bound(limit), x, 0, xanchor="right", yshift=9, color=color), "yref": "paper"}


def _labels(projection: Projection) -> Iterable[Figure]:
    width, height = NOMINAL
    for found in projection.labels(width, height):
        color = "var(--pick-ink)" if found.text.startswith("recommended") else "var(--ink)"
        text = note(found.text, found.x / width, 1 - found.y / height, xanchor=ANCHORS[found.anchor], color=color)
        yield {**text, "xref": "paper", "yref": "paper", "xshift": found.dx, "yshift": -found.dy}
