"""The front as a small static picture, for a README or a page: SVG that follows the reader's light or dark scheme."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from autokv.evaluation.measurement import Measurement
from autokv.report import front_chart, svg, view
from autokv.report.describe import describe
from autokv.report.environment import asset, render
from autokv.report.format import title
from autokv.report.palette import standalone
from autokv.report.plot import BOTTOM
from autokv.report.projection import Projection, projections
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import FrontPoint, TuningResult

WIDTH = 450.0
"""Of one of the two panels, in pixels."""
TOP = 46.0


def front_svg(result: TuningResult, constraints: Sequence[Constraint] = ()) -> Markup:
    """The front over bytes, side by side: its quality, and what decided or else its attention time."""
    drawn = projections(result, constraints)[:2]
    panels = [_panel(one, index * WIDTH, front_chart.sources(result)) for index, one in enumerate(drawn)]
    width, height = len(drawn) * WIDTH, TOP + front_chart.HEIGHT + BOTTOM
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


def _panel(projection: Projection, left: float, named: front_chart.Sources) -> Markup:
    plot = front_chart.frame(projection, WIDTH - 8)
    head = (
        svg.text(0, -28, title(projection.y.metric), "title"),
        svg.text(0, -13, view.better(projection.y.metric), "soft"),
    )
    return svg.element(
        "g",
        svg.join((*head, front_chart.panel(projection, plot, named))),
        transform=f"translate({svg.length(left + plot.left)} {TOP:g})",
    )
