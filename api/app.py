"""``create_app``: the API over one database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from autokv import __version__
from autokv.api import (
    aliases,
    configurations,
    documentation,
    events,
    hardware,
    health,
    jobs,
    models,
    problems,
    recommendations,
    uploads,
    workers,
)
from autokv.storage import Database

RESOURCES = (
    uploads,
    hardware,
    models,
    workers,
    jobs,
    events,
    configurations,
    recommendations,
    aliases,
)


def create_app(database_url: str) -> FastAPI:
    """The application; the database is opened, and brought to this version's schema, when it starts.

    Raises:
        StorageError: when it starts, if the database cannot be used.
    """

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        with Database(database_url) as database:
            app.state.database = database
            yield

    app = FastAPI(title="AutoKV", version=__version__, lifespan=opened)
    problems.install(app)
    documentation.install(app)
    app.include_router(health.router)
    for resource in RESOURCES:
        app.include_router(resource.router, prefix="/v1")
    return app
