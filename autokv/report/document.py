"""The frame of every page: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from plotly.offline import get_plotlyjs

from autokv.report.html import Markup, join, script_json, tag
from autokv.report.parts import Figure

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The browser itself refuses whatever would leave the page."""


def document(title: str, body: Markup, figures: Mapping[str, Figure]) -> str:
    """A whole page; ``figures`` are drawn at their :func:`place`."""
    head = join(
        tag("meta", None, charset="utf-8"),
        tag("meta", None, http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", None, name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", None, name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", _asset("page.css")),
    )
    scripts = join(
        tag("script", Markup(get_plotlyjs())),
        tag("script", script_json(dict(figures)), type="application/json", id="figures"),
        tag("script", _asset("page.js")),
    )
    written = tag("html", join(tag("head", head), tag("body", join(tag("main", body), scripts))), lang="en")
    return f"<!doctype html>\n{written}\n"


def place(figures: dict[str, Figure], name: str, figure: Figure, heading: str, caption: str) -> Markup:
    """Where ``figure`` is drawn, with its heading and caption; adds it to ``figures``."""
    figures[name] = figure
    plot = tag(
        "div", "", id=f"figure-{name}", class_="plot", data_figure=name, style=f"height:{figure['layout']['height']}px"
    )
    return tag("figure", join(tag("h3", heading), plot, tag("figcaption", caption)))


def _asset(name: str) -> Markup:
    return Markup(files("autokv.report").joinpath(name).read_text(encoding="utf-8"))
