"""Just enough HTML: text is escaped unless it is :class:`Markup`, so that forgetting to escape is not possible."""

from __future__ import annotations

import json
import math
from html import escape

from autokv.evaluation.naming import unit
from autokv.report.format import MISSING, number


class Markup(str):
    """HTML that is safe to put into a page as it is."""

    __slots__ = ()


def join(*parts: str) -> Markup:
    """The parts one after the other, each escaped unless it is markup."""
    return Markup("".join(_safe(part) for part in parts))


def tag(name: str, content: str | None = "", /, **attributes: str) -> Markup:
    """One element; ``class_`` and ``data_x`` stand for ``class`` and ``data-x``; content ``None`` is a void element."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    if content is None:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{_safe(content)}</{name}>")


def data(metric: str, value: float | None) -> Markup:
    """A metric's value as a person reads it with its unit, and in full precision for a machine."""
    mark = unit(metric)
    if not mark:
        return cell(value)
    return cell(value, join("" if mark == "×" else "\u00a0", tag("span", mark, class_="unit")))


def cell(value: float | None, after: str = "", *, scale: float = 1.0) -> Markup:
    """A bare number, divided by ``scale``, with the value itself in full precision in the ``data`` element's value."""
    if value is None:
        return tag("span", MISSING, class_="missing")
    return tag("data", join(number(value / scale), after), value=repr(float(value)))


def unbroken(name: str) -> str:
    """A configuration's short name whose parts keep their number on the line: ``residual 128``."""
    return ", ".join("\u00a0".join(part.rsplit(" ", 1)) for part in name.split(", "))


def script_json(document: object) -> Markup:
    """JSON that cannot end the script element it stands in; numbers that JSON lacks become ``null``."""
    text = json.dumps(finite(document), separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def finite(document: object) -> object:
    """A copy of a JSON document in which NaN and infinities are ``None``."""
    if isinstance(document, dict):
        return {str(key): finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document


def _safe(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)
