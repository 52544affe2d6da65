"""Markdown tables of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, with an empty line behind it; none at all without rows."""
    lines = ["| " + " | ".join(cell(each) for each in row) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *lines, ""] if lines else []


def cell(text: str) -> str:
    """``text`` on one line, with nothing in it that would end the cell or begin a tag; code stays as it is."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if n % 2 else part.replace("|", "\\|").replace("<", "&lt;") for n, part in enumerate(parts))


def code(text: object) -> str:
    """``text`` as code, or nothing where it is empty."""
    return f"`{text}`" if str(text) else ""
