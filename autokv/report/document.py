"""The frame of every page: one HTML file that needs nothing else, neither a network nor JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from autokv.report.html import Markup, join, tag
from autokv.report.palette import properties
from autokv.report.plot import SIZES

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The browser itself refuses whatever would leave the page."""
Draw = Callable[[float, str], Markup]
"""From a picture's width in pixels and its style to the picture."""


def document(title: str, body: Markup) -> str:
    """A whole page."""
    head = join(
        tag("meta", None, charset="utf-8"),
        tag("meta", None, http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", None, name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", None, name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(properties() + asset("page.css") + asset("chart.css"))),
    )
    written = join(tag("head", head), tag("body", join(tag("main", body), tag("script", Markup(asset("page.js"))))))
    return f"<!doctype html>\n{tag('html', written, lang='en')}\n"


def figure(name: str, heading: str, caption: str, draw: Draw) -> Markup:
    """A picture, drawn for each of the widths that it may have, with its heading and caption."""
    drawn = join(*(draw(width, style) for style, width in SIZES.items()))
    return tag("figure", join(tag("h3", heading), drawn, tag("figcaption", caption)), id=f"figure-{name}")


def wide(table: Markup, label: str) -> Markup:
    """A table that scrolls sideways within itself where the page is too narrow for it."""
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=label)


def asset(name: str) -> str:
    """Text of a file of this package."""
    return files("autokv.report").joinpath(name).read_text(encoding="utf-8")
