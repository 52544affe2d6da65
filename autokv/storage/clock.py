"""What time it is: the database says, so that no other clock matters."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from autokv.storage.columns import database_now


def now(session: Session) -> datetime:
    """The database's time, aware and in UTC."""
    return session.scalars(select(database_now())).one()
