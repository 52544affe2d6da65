"""The colours of every page and picture, in a light and in a dark scheme."""

from __future__ import annotations

import re

from markupsafe import Markup

LIGHT = {
    "ground": "#ffffff",
    "card": "#f7f8fa",
    "ink": "#2b333b",
    "strong": "#14181d",
    "soft": "#5f6a76",
    "rule": "#d5dbe1",
    "grid": "#eceff2",
    "trial": "#9aa5b1",
    "front": "#0072b2",
    "pick": "#d55e00",
    "pick-ink": "#b34700",
    "wash": "#fff6ef",
}
DARK = {
    "ground": "#12161b",
    "card": "#1a2027",
    "ink": "#c6ced6",
    "strong": "#f2f5f7",
    "soft": "#8f9aa6",
    "rule": "#343d47",
    "grid": "#222930",
    "trial": "#6b7682",
    "front": "#56b4e9",
    "pick": "#ff8c33",
    "pick-ink": "#ff9f57",
    "wash": "#241c15",
}
"""Blue and orange of Okabe and Ito (2008), which colour-blind readers tell apart; their meaning is in words too."""
NAME = re.compile(r"var\(--([a-z-]+)\)")


def standalone(css: Markup) -> Markup:
    """``css`` with every ``var(--name)`` replaced, for pictures that programs without CSS properties show too."""
    dark = NAME.sub(lambda found: DARK[found[1]], css)
    light = NAME.sub(lambda found: LIGHT[found[1]], css)
    return Markup(f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")  # noqa: S704 - of a file of this package
