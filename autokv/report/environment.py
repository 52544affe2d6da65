"""The pages' templates and colours.

Text is escaped unless it is :class:`~markupsafe.Markup`, and a missing value is an error.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autokv.evaluation.naming import unit
from autokv.report.format import heading, number, sentence, unbroken
from autokv.report.plot import SIZES

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


def render(template: str, **values: object) -> str:
    """The page of a template of this package, filled with ``values``."""
    return _environment().get_template(template).render(values)


def asset(name: str) -> Markup:
    """Text of a style sheet or a script beside the templates."""
    text = files("autokv.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - a file of this package


def standalone(css: Markup) -> Markup:
    """``css`` with every ``var(--name)`` replaced, for pictures that programs without CSS properties show too."""
    dark = NAME.sub(lambda found: DARK[found[1]], css)
    light = NAME.sub(lambda found: LIGHT[found[1]], css)
    return Markup(f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")  # noqa: S704 - of a file of this package


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("autokv.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "exact": lambda value: repr(float(value)),
        "heading": heading,
        "number": number,
        "sentence": sentence,
        "unbroken": unbroken,
        "unit": unit,
    }
    environment.globals |= {"asset": asset, "light": LIGHT, "dark": DARK, "widths": SIZES}
    return environment
