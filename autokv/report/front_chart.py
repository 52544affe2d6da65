"""A projection of the front as a picture: trials faint, the front joined, roles and the 16-bit cache labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from markupsafe import Markup

from autokv.evaluation.naming import label
from autokv.report import svg, view
from autokv.report.describe import describe
from autokv.report.format import heading, quantity, title
from autokv.report.labels import Box, Label
from autokv.report.plot import Plot
from autokv.report.projection import Mark, Projection
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import TuningResult

HEIGHT = 260.0
SAID = ("kl_divergence", view.BYTES, "compression_ratio", view.RATIO, "top1_agreement", "task_score")
"""What is said of a dot of the front, as far as it was measured; of a trial's, the two metrics of the picture."""
Sources = Mapping[str, str]
"""Digest to ``trial 12, tpe``."""


def sources(result: TuningResult) -> dict[str, str]:
    """Where each configuration came from."""
    return {
        trial.config.digest: f"trial {trial.number}, {trial.source}"
        for trial in reversed(result.trials)
        if trial.config is not None
    }


def front_chart(projection: Projection, named: Sources, width: float, style: str) -> Markup:
    """The projection in a picture of ``width`` pixels, each dot with its figures."""
    plot = frame(projection, width)
    label = (
        f"{heading(projection.y.metric)} over {title(projection.x.metric)}: {len(projection.front)} configurations of "
        f"the front and {len(projection.trials)} other trials"
    )
    return plot.picture(panel(projection, plot, named), label, style=style, role="group")


def frame(projection: Projection, width: float) -> Plot:
    """The axes of a projection in a picture of ``width`` pixels."""
    return Plot.of(projection.x, projection.y, width, HEIGHT)


def panel(projection: Projection, plot: Plot, named: Sources) -> Markup:
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


def _said(mark: Mark, named: Sources, metrics: Iterable[str]) -> list[str]:
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
