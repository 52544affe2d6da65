"""Amounts over time or over sizes: a few lines in one picture, told apart by colour and by their strokes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from autokv.report import svg
from autokv.report.format import number
from autokv.report.plot import Figure, Plot
from autokv.report.scale import Scale

HEIGHT = 190.0
STROKES = ("solid", "dashed", "dotted")
"""Of the first, the second and the third line, so that none is told by its colour alone."""
ZONE = 6.0
"""Pixels of the stretches that tell a pointer what the lines stand at."""


@dataclass(frozen=True)
class Series:
    """A line: its name, and as many ``y`` as ``x``, which rise."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Lines:
    """At most three lines over ``x_name``, an amount with its unit; ``y_name`` says what they count."""

    series: tuple[Series, ...]
    x_name: str
    y_name: str
    log: bool = False
    """Whether the horizontal axis is logarithmic."""
    steps: bool = False
    """Whether a value holds until the next one."""
    whole: bool = False
    """Whether ``x`` counts something."""
    level: tuple[float, str] | None = None
    """A value that is drawn across, and its name."""
    place: tuple[float, str] | None = None
    """Where on the horizontal axis something happens, and what."""
    colors: tuple[str, ...] = ("front", "pick", "soft")

    def figure(self, name: str, heading: str, caption: str) -> Figure:
        """The picture with its heading, its caption and a legend, which a single line does not need."""
        legend = [(kind, one.name) for kind, one in zip(self._kinds, self.series, strict=False)]
        return Figure(name, heading, caption, self.draw, legend if len(legend) > 1 else ())

    def draw(self, width: float, style: str) -> Markup:
        """The picture in ``width`` pixels."""
        xs = [x for one in self.series for x in one.x]
        high = max([y for one in self.series for y in one.y] + ([self.level[0]] if self.level else []), default=1.0)
        low, last = (min(xs), max(xs)) if xs else (0.0, 1.0)
        across = Scale.logarithmic(self.x_name, low, last) if self.log else Scale.up_to(self.x_name, last, min(low, 0))
        plot = Plot.of(across, Scale.up_to(self.y_name, (1.06 if self.level is None else 1.2) * high), width, HEIGHT)
        parts = [plot.axes(self.x_name), *self._marks(plot)]
        for kind, one in reversed(list(zip(self._kinds, self.series, strict=False))):
            points = [plot.at(x, y) for x, y in zip(one.x, one.y, strict=True)]
            if points:
                path = svg.steps(points) if self.steps else svg.polyline(points)
                parts.append(svg.element("path", class_=f"line {kind}", d=path))
        parts.append(svg.element("g", svg.join(self._zones(plot)), aria_hidden="true"))
        return plot.picture(svg.join(parts), self.summary, style=style)

    @property
    def summary(self) -> str:
        """The lines in words, for those who do not see them."""
        said = (
            f"{one.name}: {number(min(one.y))} to {number(max(one.y))}, {number(one.y[-1])} at the end"
            for one in self.series
            if len(one.y)
        )
        return f"{self.y_name} over {self.x_name}. {'; '.join(said)}"

    @property
    def _kinds(self) -> list[str]:
        return [f"{color} {stroke}" for color, stroke in zip(self.colors, STROKES, strict=True)]

    def _marks(self, plot: Plot) -> Iterable[Markup]:
        if self.level is not None:
            y = plot.at(plot.x.low, self.level[0])[1]
            yield svg.line((0, y), (plot.width, y), "plain")
            yield svg.text(plot.width, y - 9, self.level[1], "soft halo", "end")
        if self.place is not None:
            x = plot.at(self.place[0], 0)[0]
            late = x > plot.width / 2
            yield svg.line((x, 0), (x, plot.height), "plain")
            yield svg.text(
                x + (-6 if late else 6), plot.height - 9, self.place[1], "soft halo", "end" if late else "start"
            )

    def _zones(self, plot: Plot) -> Iterable[Markup]:
        count = int(plot.width / ZONE)
        first = min((x for one in self.series for x in one.x), default=0.0)
        for index in range(count):
            x = plot.x.value((index + 0.5) / count)
            if self.whole:
                x = max(float(round(x)), first)
            lines = [f"{one.name}: {number(value)}" for one in self.series if (value := self._at(one, x)) is not None]
            shape = svg.element(
                "rect", class_="reach", x=index * plot.width / count, y=0, width=plot.width / count, height=plot.height
            )
            at = f"{x:,.0f}" if self.whole else number(x)
            title = svg.element("title", "\n".join([f"{self.x_name}: {at}", *lines]))
            yield svg.element("g", title + shape, class_="zone")

    def _at(self, one: Series, x: float) -> float | None:
        if not len(one.x) or x > one.x[-1]:
            return None
        if self.steps:
            return one.y[max(0, bisect_right(one.x, x) - 1)]
        return one.y[bisect_left(one.x, x)]
