"""Pages of what is stored: the newest first, each page beginning behind the last item of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute

Cursor = tuple[datetime, str] | None
"""When the last item of a page was created, and its id; ``None`` before the first page and after the last."""
Columns = tuple[InstrumentedAttribute[datetime], InstrumentedAttribute[str]]
Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])
Row = TypeVar("Row")


def newest_first(query: Query, columns: Columns, cursor: Cursor, limit: int) -> Query:
    """``query`` from behind ``cursor`` on, one row longer than a page; ``columns`` are time and id."""
    created, name = columns
    if cursor is not None:
        moment, last = cursor
        query = query.where(or_(created < moment, and_(created == moment, name < last)))
    return query.order_by(created.desc(), name.desc()).limit(limit + 1)


def cut(rows: Sequence[Row], limit: int, place: Callable[[Row], tuple[datetime, str]]) -> tuple[Sequence[Row], Cursor]:
    """The rows of one page, and where the next one begins."""
    page = rows[:limit]
    return page, place(page[-1]) if len(rows) > limit else None
