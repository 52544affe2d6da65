"""What a built page or style sheet loads from other hosts; a link that a reader follows is none of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

LOADING = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("object", "data"),
}
RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}
"""Of a ``<link>`` whose address a browser opens by itself."""


def loads(text: str, suffix: str) -> Iterator[str]:
    """The addresses on other hosts that ``text`` makes a browser open by itself.

    Args:
        text: a whole file.
        suffix: ``.html`` or ``.css``.
    """
    yield from (address for address in PARSERS[suffix](text) if re.match(r"(?:https?:)?//", address))


def _of_page(text: str) -> list[str]:
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            named = {name: value or "" for name, value in attributes}
            found.extend(value for name, value in named.items() if (tag, name) in LOADING)
            if tag == "link" and RELATIONS & set(named.get("rel", "").split()):
                found.append(named.get("href", ""))
            found.extend(_of_style(named.get("style", "")))

    Reader().feed(text)
    return found


def _of_style(text: str) -> list[str]:
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text)


PARSERS = {".html": _of_page, ".css": _of_style}
