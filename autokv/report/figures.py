"""The front as a small static picture, for a README: plain SVG that follows the reader's light or dark scheme."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from autokv.report import front_chart, svg, view
from autokv.report.environment import asset
from autokv.report.format import title
from autokv.report.palette import standalone
from autokv.report.plot import BOTTOM
from autokv.report.projection import Projection, projections
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import TuningResult

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
