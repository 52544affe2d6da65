"""What routes are given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from autokv.storage import Database


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


Stored = Annotated[Database, Depends(_database)]
"""The database of the application."""
