"""The front as a picture, trials faint, roles and the 16-bit cache labelled: of a page, or an SVG of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.naming import label
from autokv.report import svg, view
from autokv.report.describe import describe
from autokv.report.environment import asset, render, standalone
from autokv.report.format import heading, quantity, title
from autokv.report.labels import Box, Label
from autokv.report.plot import BOTTOM, Plot
from autokv.report.projection import Mark, Projection, projections
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import FrontPoint, TuningResult

HEIGHT = 260.0
PANEL = 450.0
"""Of one of the two panels, in pixels."""
TOP = 46.0
SAID = ("kl_divergence", view.BYTES, "compression_ratio", view.RATIO, "top1_agreement", "task_score")
"""What is said of a dot of the front, as far as it was measured; of a trial's, the two metrics of the picture."""


def sources(result: TuningResult) -> dict[str, str]:
    """Digest to where a configuration came from: ``trial 12, tpe``."""
    return {
        trial.config.digest: f"trial {trial.number}, {trial.source}"
        for trial in reversed(result.trials)
        if trial.config is not None
    }


def front_chart(projection: Projection, named: Mapping[str, str], width: float, style: str) -> Markup:
    """The projection in a picture of ``width`` pixels, each dot with its figures."""
    plot = Plot.of(projection.x, projection.y, width, HEIGHT)
    label = (
        f"{heading(projection.y.metric)} over {title(projection.x.metric)}: {len(projection.front)} configurations of "
        f"the front and {len(projection.trials)} other trials"
    )
    return plot.picture(panel(projection, plot, named), label, style=style, role="group")


def panel(projection: Projection, plot: Plot, named: Mapping[str, str]) -> Markup:
    """What lies within ``plot``."""
    parts = [plot.axes(title(projection.x.metric))]
    for limit, box in zip(projection.limits, projection.bounds(plot.width, plot.height), strict=True):
        parts.append(_limit(limit, box, projection, plot))
    if projection.line:
        corners = [plot.at(*corner) for corner in projection.line]
        parts.append(svg.element("path", class_="line front", d=svg.steps(corners)))
    placed = projection.labels(plot.width, plot.height)
    parts += [svg.line(*one.leader, "leader") for one in placed if one.leader is not None]
    for mark in projection.trials:
        at = plot.at(mark.x, mark.y)
        parts.append(
            svg.dot(at, svg.circle(at, 3, "trial"), _said(mark, named, (projection.x.metric, projection.y.metric)))
        )
    if projection.baseline is not None:
        at = plot.at(*projection.baseline)
        pair = zip((projection.x.metric, projection.y.metric), projection.baseline, strict=True)
        lines = ["16-bit cache", *(f"{label(metric)} {quantity(metric, value)}" for metric, value in pair)]
        parts.append(svg.dot(at, _cross(at), lines))
    for mark in sorted(projection.front, key=lambda mark: "recommended" in mark.roles):
        at = plot.at(mark.x, mark.y)
        parts.append(svg.dot(at, svg.join(_shapes(mark, at)), _said(mark, named, SAID)))
    parts += [_name(one) for one in placed]
    return svg.join(parts)


def front_svg(result: TuningResult, constraints: Sequence[Constraint] = ()) -> Markup:
    """The front over bytes, side by side: its quality, and what decided or else its attention time."""
    drawn = projections(result, constraints)[:2]
    panels = [_panel(one, index * PANEL, sources(result)) for index, one in enumerate(drawn)]
    width, height = len(drawn) * PANEL, TOP + HEIGHT + BOTTOM
    if not drawn:
        width, panels = 420.0, [svg.text(24, 40, "No configuration was measured.", "")]
    style = svg.element("style", standalone(asset("chart.css")))
    ground = svg.element("rect", class_="ground", width="100%", height="100%", rx=6)
    label = "Pareto front of the measured configurations"
    return svg.picture(svg.join((style, ground, *panels)), width, height, label, style="static", role="group") + "\n"


def picture(judged: Sequence[tuple[str, Measurement]], suffix: str) -> str:
    """Judged configurations, each with its name, as an SVG, or as an HTML page that holds it and needs no script.

    The dot of the 16-bit cache is called so, as in a report.
    """
    drawn = front_svg(
        TuningResult(
            objectives=("kl_divergence", view.BYTES),
            trials=(),
            front=[
                FrontPoint(number, "file", calibration=measurement, validation=None, feasible=True)
                for number, (_, measurement) in enumerate(judged)
            ],
            recommended=None,
            named={
                name: measurement.config.digest
                for name, measurement in judged
                if not measurement.config.pipeline.is_identity
            },
        )
    )
    if suffix == ".svg":
        return drawn
    names = [(name, describe(measurement.config)) for name, measurement in judged]
    return render("evaluated.html.jinja", picture=drawn, names=names)


def _panel(projection: Projection, left: float, named: Mapping[str, str]) -> Markup:
    plot = Plot.of(projection.x, projection.y, PANEL - 8, HEIGHT)
    head = (
        svg.text(0, -28, title(projection.y.metric), "title"),
        svg.text(0, -13, view.better(projection.y.metric), "soft"),
    )
    return svg.element(
        "g",
        svg.join((*head, panel(projection, plot, named))),
        transform=f"translate({svg.length(left + plot.left)} {TOP:g})",
    )


def _shapes(mark: Mark, at: svg.Point) -> Iterable[Markup]:
    """A shape for each kind, so that none is told by its colour alone."""
    if "recommended" in mark.roles:
        x, y = at
        yield svg.element("path", class_="pick", d=f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z")
        return
    yield svg.circle(at, 4, "front")
    if mark.roles:
        yield svg.circle(at, 7, "role")


def _cross(at: svg.Point) -> Markup:
    return svg.element("path", class_="cross", d=f"M{at[0] - 6:.1f} {at[1]:.1f}h12m-6 -6v12")


def _name(one: Label) -> Markup:
    style = "chosen halo" if one.text.startswith("recommended") else "soft halo" if one.text == view.FULL else "halo"
    return svg.text(one.x + one.dx, one.y + one.dy, one.text, style, one.anchor)


def _limit(limit: Constraint, box: Box, projection: Projection, plot: Plot) -> Markup:
    if limit.metric == projection.y.metric:
        y = plot.at(plot.x.low, limit.limit)[1]
        drawn = svg.line((0, y), (plot.width, y), "limit")
    else:
        x = plot.at(limit.limit, plot.y.low)[0]
        drawn = svg.line((x, 0), (x, plot.height), "limit")
    return drawn + svg.text(box.left, (box.top + box.bottom) / 2, view.bound(limit), "bound halo")


def _said(mark: Mark, named: Mapping[str, str], metrics: Iterable[str]) -> list[str]:
    """Name, roles, figures and origin of a configuration, a line each."""
    config = mark.measurement.config
    called = f" ({', '.join(mark.roles)})" if mark.roles else ""
    figures = [
        f"{label(name)} {quantity(name, value)}"
        for name in metrics
        if (value := view.mean(mark.measurement, name)) is not None
    ]
    origin = (named.get(config.digest, ""), f"{mark.split} prompts", config.digest[:12])
    return [describe(config) + called, *figures, ", ".join(filter(None, origin))]
