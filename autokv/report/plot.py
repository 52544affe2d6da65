"""A plot's frame: two axes with ticks and a title, and where a pair of values lies on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from autokv.report import svg
from autokv.report.labels import CHARACTER
from autokv.report.scale import Scale

SIZES = {"narrow": 340.0, "broad": 500.0}
"""Widths of a picture in pixels: for a phone or half a tablet, and for half a screen. The page shows what fits."""
TOP, RIGHT, BOTTOM = 10.0, 18.0, 46.0
TICK_SPACE = 50.0
"""Pixels that a tick's text wants to itself."""


@dataclass(frozen=True)
class Figure:
    """A picture on a page."""

    name: str
    heading: str
    caption: str
    draw: Callable[[float, str], Markup]
    """From a width in pixels and a style, which :data:`SIZES` names, to the picture."""
    legend: Sequence[tuple[str, str]] = ()
    """The style and the name of each line, where there are several."""


@dataclass(frozen=True)
class Plot:
    """``width`` by ``height`` pixels between the axes, ``left`` pixels from the picture's edge."""

    x: Scale
    y: Scale
    width: float
    height: float
    left: float
    y_ticks: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, x: Scale, y: Scale, width: float, height: float, rows: tuple[str, ...] = ()) -> Plot:
        """A plot in a picture of ``width``; ``rows`` name the whole numbers of an axis of kinds instead of numbers."""
        ticks = tuple((float(row), name) for row, name in enumerate(rows)) or tuple(
            (value, y.tick_text(value)) for value in y.ticks(6)
        )
        left = 12 + CHARACTER * max((len(name) for _, name in ticks), default=0)
        return cls(x, y, width - left - RIGHT, height, left, ticks)

    def at(self, x: float, y: float) -> svg.Point:
        """Pixels from the plot's upper left corner; a value beyond the axis sits on its end."""
        return self.x.fraction(x) * self.width, (1 - self.y.fraction(y)) * self.height

    def axes(self, x_title: str) -> Markup:
        """Grid, ticks and the title of the horizontal axis."""
        parts = []
        for value, name in self.y_ticks:
            y = self.at(self.x.low, value)[1]
            parts += [svg.line((0, y), (self.width, y), "grid"), svg.text(-8, y, name, "soft", "end")]
        parts.append(svg.line((0, self.height), (self.width, self.height), "axis"))
        for value in self.x.ticks(max(3, int(self.width / TICK_SPACE))):
            x = self.at(value, self.y.low)[0]
            parts.append(svg.line((x, self.height), (x, self.height + 4), "axis"))
            parts.append(svg.text(x, self.height + 14, self.x.tick_text(value), "soft", "middle"))
        parts.append(svg.text(self.width, self.height + 34, x_title, "", "end"))
        return svg.join(parts)

    def picture(self, content: Markup, label: str, *, style: str, role: str = "img") -> Markup:
        """The plot with ``content`` as a picture of its own."""
        inner = svg.element("g", content, transform=f"translate({svg.length(self.left)} {TOP:g})")
        width = self.left + self.width + RIGHT
        return svg.picture(inner, width, TOP + self.height + BOTTOM, label, style=style, role=role)
