"""The front as a small static picture, for a README: plain SVG that follows the reader's light or dark scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from autokv.report.format import title
from autokv.report.projection import Mark, Projection, projections
from autokv.report.view import better, bound
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import TuningResult

PANEL = (352.0, 250.0)
"""Width and height of one plot, in pixels."""
Locate = Callable[[float, float], tuple[float, float]]
"""Metrics' values to pixels in the panel."""
LEFT, RIGHT, TOP, BOTTOM, BETWEEN = 58.0, 20.0, 46.0, 50.0, 30.0

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #3d4650 }
.title { font-weight: 600; fill: #14181d } .soft { fill: #6b7682 } .bound { fill: #b34700 }
.strong { font-weight: 600; fill: #b34700 }
.axis { stroke: #c9d0d7 } .grid { stroke: #eceff2 } .trial { fill: #9aa5b1; fill-opacity: .45 }
.front { fill: #0072b2 }
.line { fill: none; stroke: #0072b2; stroke-width: 1.5 }
.role { fill: none; stroke: #0072b2; stroke-width: 1.5 } .pick { fill: #d55e00 } .plain, .cross { stroke: #6b7682 }
.limit { stroke: #b34700; stroke-dasharray: 2 3 } .plain { stroke-dasharray: 4 3 } .ground { fill: #fff }
@media (prefers-color-scheme: dark) {
  text { fill: #b8c1cb } .title { fill: #eef1f4 } .soft { fill: #8b96a2 } .strong, .bound { fill: #ff9a4d }
  .axis { stroke: #3a434d } .grid { stroke: #232a31 } .trial { fill: #8b96a2; fill-opacity: .4 }
  .front { fill: #56b4e9 } .line, .role { stroke: #56b4e9 } .pick { fill: #ff8c33 } .limit { stroke: #ff9a4d }
  .ground { fill: #14181d }
}
"""


def front_svg(result: TuningResult, constraints: Sequence[Constraint] = ()) -> str:
    """The front over bytes: its quality and, where it was timed, its attention time, side by side."""
    drawn = projections(result, constraints)
    width = len(drawn) * (LEFT + PANEL[0]) + (len(drawn) - 1) * BETWEEN + RIGHT
    height = TOP + PANEL[1] + BOTTOM
    panels = "".join(
        f'<g transform="translate({LEFT + index * (PANEL[0] + LEFT + BETWEEN):g} {TOP:g})">{"".join(_panel(one))}</g>'
        for index, one in enumerate(drawn)
    )
    if not drawn:
        width, panels = 420.0, '<text x="24" y="40">No configuration was measured.</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="Pareto front of the measured configurations">'
        f'<style>{STYLE}</style><rect class="ground" width="100%" height="100%" rx="6"/>{panels}</svg>\n'
    )


def _panel(view: Projection) -> Iterable[str]:
    width, height = PANEL

    def at(x: float, y: float) -> tuple[float, float]:
        return view.x.fraction(x) * width, (1 - view.y.fraction(y)) * height

    yield f'<text class="title" x="0" y="-24">{escape(title(view.y.metric))}</text>'
    yield f'<text class="soft" x="0" y="-9">{better(view.y.metric)}</text>'
    for value in view.y.ticks():
        y = at(view.x.low, value)[1]
        yield f'<line class="grid" x1="0" x2="{width:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(-8, y + 4, view.y.tick_text(value), "soft", "end")
    yield f'<line class="axis" x1="0" x2="{width:g}" y1="{height:g}" y2="{height:g}"/>'
    for value in view.x.ticks():
        x = at(value, view.y.low)[0]
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height:g}" y2="{height + 4:g}"/>'
        yield _text(x, height + 18, view.x.tick_text(value), "soft", "middle")
    yield _text(width, height + 38, title(view.x.metric), "", "end")
    for limit in view.limits:
        yield from _limit(view, limit, at)
    if view.baseline is not None:
        x, y = at(view.baseline[0], view.y.low if view.baseline[1] is None else view.baseline[1])
        if view.baseline[1] is None:
            yield f'<line class="plain" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:g}"/>'
        else:
            yield f'<path class="cross" d="M{x - 5:.1f} {y:.1f}h10m-5 -5v10"/>'
    for mark in view.trials:
        yield _dot(*at(mark.x, mark.y), 3, "trial")
    if view.line:
        yield f'<path class="line" d="{_steps([at(*corner) for corner in view.line])}"/>'
    for mark in sorted(view.front, key=lambda mark: "recommended" in mark.roles):
        yield from _front_mark(mark, *at(mark.x, mark.y))
    for label in view.labels(width, height):
        style = "strong" if label.text.startswith("recommended") else "soft" if label.text.startswith("16-bit") else ""
        yield _text(label.x + label.dx, label.y + label.dy + 4, label.text, style, label.anchor)


def _front_mark(mark: Mark, x: float, y: float) -> Iterable[str]:
    if "recommended" in mark.roles:
        yield f'<path class="pick" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"/>'
        return
    yield _dot(x, y, 4, "front")
    if mark.roles:
        yield _dot(x, y, 7, "role")


def _limit(view: Projection, limit: Constraint, at: Locate) -> Iterable[str]:
    width, height = PANEL
    if limit.metric == view.y.metric:
        y = at(view.x.low, limit.limit)[1]
        yield f'<line class="limit" x1="0" x2="{width:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(2, y + 14 if limit.kind == "max" else y - 5, bound(limit), "bound", "start")
    else:
        x = at(limit.limit, view.y.low)[0]
        yield f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:g}"/>'
        yield _text(x - 4, height - 5, bound(limit), "bound", "end")


def _steps(corners: Sequence[tuple[float, float]]) -> str:
    """Horizontal, then vertical: what lies beyond a corner is reached only at the next one."""
    (x, y), *rest = corners
    return f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)


def _dot(x: float, y: float, radius: float, style: str) -> str:
    return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def _text(x: float, y: float, text: str, style: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
