"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from autokv.storage import Database


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


Stored = Annotated[Database, Depends(_database)]
"""The database of the application."""

Id = Annotated[str, Path(pattern=r"^[0-9A-Za-z._-]{1,100}$", description="id")]
"""An id in a path; what no id looks like is refused before the database is asked."""
