"""Every prompt of a configuration: a dot each, a row for each split, a bar at the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from autokv.evaluation.measurement import Measurement
from autokv.report import svg, view
from autokv.report.format import number, quantity, title
from autokv.report.plot import Plot
from autokv.report.scale import Scale

ROW = 84.0
"""Pixels of a row."""


def samples_chart(splits: Mapping[str, Measurement], metric: str, width: float, style: str) -> Markup:
    """The samples of ``splits`` over ``metric``, in a picture of ``width`` pixels."""
    found = {
        name: [sample for sample in measurement.samples if sample.get(metric) is not None]
        for name, measurement in splits.items()
    }
    scale = Scale.over(metric, [sample[metric] for samples in found.values() for sample in samples])
    rows = Scale("", False, len(splits) - 0.5, -0.5)
    plot = Plot.of(scale, rows, width, ROW * len(splits), tuple(splits))
    parts = [plot.axes(title(metric))]
    for row, (name, samples) in enumerate(found.items()):
        kind = "pick" if name == "validation" else "front"
        for sample in samples:
            at = plot.at(sample[metric], row)
            parts.append(svg.dot(at, svg.circle(at, 5, f"{kind} sample"), _said(sample, metric)))
        mean = view.mean(splits[name], metric)
        if mean is not None:
            x, y = plot.at(mean, row)
            parts.append(svg.line((x, y - 18), (x, y + 18), f"mean {kind}"))
            parts.append(svg.text(x, y - 27, f"mean {number(mean)}", "soft halo", _anchor(x, plot.width)))
    counts = " and ".join(f"{len(samples)} {name} prompts" for name, samples in found.items())
    return plot.picture(svg.join(parts), f"{title(metric)} of {counts}", style=style, role="group")


def _anchor(x: float, width: float) -> str:
    """A text near an edge stays within the plot."""
    return "start" if x < 40 else "end" if x > width - 40 else "middle"


def _said(sample: Mapping[str, Any], metric: str) -> list[str]:
    context = [f"{sample['context_tokens']:,} tokens"] if "context_tokens" in sample else []
    return [str(sample.get("id", "sample")), *context, quantity(metric, sample[metric])]
