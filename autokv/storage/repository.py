"""What every repository shares: sessions, the database's time, pages, names by their beginning, and retries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

import tenacity
from sqlalchemy import Row, Select, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from autokv.errors import StorageError, UnavailableError
from autokv.storage.columns import database_now

Sessions = Callable[[], AbstractContextManager[Session]]


class Repository:
    """Reads and writes one kind of thing; each call has a transaction of its own."""

    def __init__(self, reading: Sessions, writing: Sessions) -> None:
        self._reading, self._writing = reading, writing

    def _persist(self, write: Callable[[Session], None], *, again: bool = True) -> None:
        """Write in one transaction, ``again`` while the database cannot be reached (:func:`through_outages`)."""

        def transaction() -> None:
            with self._writing() as session:
                write(session)

        if again:
            through_outages(transaction)
        else:
            transaction()


def now(session: Session) -> datetime:
    """The database's time, aware and in UTC."""
    return session.scalars(select(database_now())).one()


Cursor = tuple[datetime, str] | None
"""When the last item of a page was created, and its id; ``None`` before the first page and after the last."""
Columns = tuple[InstrumentedAttribute[datetime], InstrumentedAttribute[str]]


def newest_first(
    session: Session, query: Select[*tuple[Any, ...]], columns: Columns, cursor: Cursor, limit: int
) -> tuple[Sequence[Row[*tuple[Any, ...]]], Cursor]:
    """The rows of one page, from behind ``cursor`` on, and where the next page begins.

    ``query`` selects the entity first whose time and id ``columns`` are.
    """
    created, name = columns
    if cursor is not None:
        moment, last = cursor
        query = query.where(or_(created < moment, and_(created == moment, name < last)))
    rows = session.execute(query.order_by(created.desc(), name.desc()).limit(limit + 1)).all()
    page = rows[:limit]
    following = (getattr(page[-1][0], created.key), getattr(page[-1][0], name.key)) if len(rows) > limit else None
    return page, following


SHOWN = 3
"""Names that a message lists."""


def only_match(kind: str, prefix: str, matches: Sequence[str], remedy: str) -> str:
    """The only one of ``matches``, the names that begin with ``prefix``.

    Raises:
        StorageError: there is none, or more than one.
    """
    if not prefix or not matches:
        raise StorageError(f"there is no {kind} {prefix!r}", remedy=remedy)
    if len(matches) > 1:
        shown = ", ".join(name[:12] for name in matches[:SHOWN]) + (", …" if len(matches) > SHOWN else "")
        raise StorageError(f"{kind} {prefix!r} could be {shown}", remedy="give more of its characters")
    return matches[0]


OUTAGE_SECONDS = 120.0
"""How long a database may be away before a write gives up."""
LONGEST_PAUSE_SECONDS = 2.0

Result = TypeVar("Result")


def through_outages(write: Callable[[], Result], *, seconds: float | None = None) -> Result:
    """Call ``write`` again while the database cannot be reached, for ``OUTAGE_SECONDS`` or the given time.

    ``write`` is one transaction, and one that may be repeated: where the connection was lost while it committed, it may
    have been stored already, and finds that out itself.

    Raises:
        UnavailableError: the outage outlasts the time.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UnavailableError),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=LONGEST_PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(OUTAGE_SECONDS if seconds is None else seconds),
        reraise=True,
    )
    return retrying(write)
