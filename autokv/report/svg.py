"""Parts of a picture as SVG: text is escaped unless it is :class:`~markupsafe.Markup`; lengths are in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Point = tuple[float, float]


def element(name: str, content: str = "", /, **attributes: str | float) -> Markup:
    """One element; ``class_`` and ``aria_label`` stand for ``class`` and ``aria-label``, numbers are rounded."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(one if isinstance(one, str) else length(one))}"'
        for key, one in attributes.items()
    )
    return Markup(f"<{name}{written}>{escape(content)}</{name}>")  # noqa: S704 - escaped here


def join(parts: Iterable[str]) -> Markup:
    """The parts one after the other, each escaped unless it is markup."""
    return Markup("").join(parts)


def length(value: float) -> str:
    """A length to a tenth of a pixel, without trailing zeros."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, style: str, anchor: str = "start") -> Markup:
    """Words whose middle line is at ``y``; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return element("text", words, class_=style, x=x, y=y + 4, text_anchor=anchor)


def line(start: Point, end: Point, style: str) -> Markup:
    """A straight line."""
    return element("line", class_=style, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def circle(at: Point, radius: float, style: str) -> Markup:
    """A filled circle."""
    return element("circle", class_=style, cx=at[0], cy=at[1], r=radius)


def steps(corners: Sequence[Point]) -> str:
    """A path that goes across first, then up or down: what lies beyond a corner is reached only at the next one."""
    (x, y), *rest = corners
    return f"M{length(x)} {length(y)}" + "".join(f"H{length(x)}V{length(y)}" for x, y in rest)


def polyline(points: Iterable[Point]) -> str:
    """A path from point to point."""
    return "M" + "L".join(f"{length(x)} {length(y)}" for x, y in points)


def dot(at: Point, shapes: Markup, lines: Sequence[str]) -> Markup:
    """A point that a pointer or the keyboard reaches, and what it stands for: a line for each fact."""
    return element(
        "g",
        join((element("title", "\n".join(lines)), shapes, circle(at, 9, "reach"))),
        class_="dot",
        tabindex="0",
        role="img",
        aria_label="; ".join(lines),
    )


def picture(content: Markup, width: float, height: float, label: str, *, style: str, role: str) -> Markup:
    """The whole picture; ``role`` is ``img``, or ``group`` where it has dots to go through."""
    return element(
        "svg",
        content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {length(width)} {length(height)}",
        width=width,
        height=height,
        class_=f"chart {style}",
        role=role,
        aria_label=label,
    )
