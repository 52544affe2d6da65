"""The pages' templates: text is escaped unless it is :class:`~markupsafe.Markup`, and a missing value is an error."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autokv.evaluation.naming import unit
from autokv.report.format import heading, number, sentence, unbroken
from autokv.report.palette import DARK, LIGHT
from autokv.report.plot import SIZES


def render(template: str, **values: object) -> str:
    """The page of a template of this package, filled with ``values``."""
    return _environment().get_template(template).render(values)


def asset(name: str) -> Markup:
    """Text of a style sheet or a script beside the templates."""
    text = files("autokv.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - a file of this package


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
