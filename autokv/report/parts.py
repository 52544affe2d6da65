"""What all interactive charts share: layout, axes, lines and notes, as plotly wants them in plain dictionaries."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

Figure = dict[str, Any]
SPANS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (0.0, "seconds"))


def layout(height: int, left: int = 52) -> Figure:
    """A quiet chart of ``height`` pixels, with room for ``left`` pixels of tick labels."""
    font = {"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 12, "color": "var(--ink)"}
    return {
        "height": height,
        "margin": {"l": left, "r": 18, "t": 12, "b": 48},
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": font,
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--rule)",
            "font": font,
            "align": "left",
        },
    }


def plain_axis(text: str) -> Figure:
    """A linear axis that is called ``text``."""
    return {
        "title": {"text": escape(text), "standoff": 10},
        "fixedrange": True,
        "zeroline": False,
        "gridcolor": "var(--grid)",
        "linecolor": "var(--rule)",
        "tickcolor": "var(--rule)",
        "tickfont": {"color": "var(--soft)"},
    }


def line(axis: str, value: float, style: Figure) -> Figure:
    """A line across the whole chart at ``value`` of ``axis`` (``x`` or ``y``)."""
    across = "y" if axis == "x" else "x"
    fixed = {f"{axis}0": value, f"{axis}1": value, f"{across}0": 0, f"{across}1": 1, f"{across}ref": "paper"}
    return {"type": "line", "layer": "above", "line": style, **fixed}


def note(text: str, x: float, y: float, *, xanchor: str, color: str, yshift: float = 0) -> Figure:
    """Text beside a point."""
    return {
        "text": escape(text),
        "x": x,
        "y": y,
        "xanchor": xanchor,
        "yanchor": "middle",
        "yshift": yshift,
        "showarrow": False,
        "font": {"color": color, "size": 12},
    }


def span(longest_s: float) -> tuple[float, str]:
    """The unit of an axis of time that reaches to ``longest_s``: its seconds and its name."""
    return next((seconds or 1.0, name) for seconds, name in SPANS if longest_s >= 2 * seconds)


def short(values: Iterable[float]) -> list[float]:
    """Five significant figures, which no screen shows more of."""
    return [float(f"{value:.5g}") for value in values]
