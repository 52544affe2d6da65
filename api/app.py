"""``create_app``: the API over one database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI

from autokv import __version__, settings
from autokv.api import (
    aliases,
    configurations,
    documentation,
    events,
    hardware,
    health,
    jobs,
    models,
    outcomes,
    problems,
    recommendations,
    upkeep,
    uploads,
    workers,
)
from autokv.api.bodies import Limits
from autokv.api.dependencies import known_parameters
from autokv.api.metrics import Metrics
from autokv.api.middleware import Surroundings
from autokv.api.templates import PREFIX
from autokv.api.views import Fleet
from autokv.api.waiting import Hub
from autokv.storage import Database

RESOURCES = (
    uploads,
    hardware,
    models,
    workers,
    jobs,
    events,
    outcomes,
    configurations,
    recommendations,
    aliases,
)
THREADS = 8
"""In which requests are answered: they share one interpreter, and more of them only wait for one another."""
FILES = ("traces", "prompts", "hardware-profiles")
"""Resources whose bodies are files of any media type, as large as the setting allows."""
DESCRIPTION = """\
Which compression of the KV cache fits a model, a device and its traffic: submit a job, follow it, read what it
recommends. Every error is a problem document (RFC 9457) of one shape."""


def create_app(database_url: str) -> FastAPI:
    """The application; the database is opened, and brought to this version's schema, when it starts.

    ``app.state.hub.close()`` ends its event streams, which a server does before it waits for open requests.

    Raises:
        RequestError: a setting makes no sense.
        StorageError: when it starts, if the database cannot be used.
    """
    machine = settings.current()
    metrics = Metrics()

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        async with AsyncExitStack() as stack:
            database = stack.enter_context(Database(database_url))
            hub = Hub(database)
            app.state.database, app.state.hub, app.state.fleet = database, hub, Fleet(database)
            stack.enter_context(metrics.of(database, lambda: hub.streams))
            await stack.enter_async_context(upkeep.running(database, machine))
            await stack.enter_async_context(hub.running())
            yield

    app = FastAPI(title="AutoKV", version=__version__, description=DESCRIPTION, lifespan=opened)
    app.state.settings, app.state.metrics, app.state.parameters = machine, metrics, {}
    limits = Limits({f"{PREFIX}/{name}": machine.max_upload_bytes for name in FILES})
    app.add_middleware(partial(Surroundings, metrics=metrics, limits=limits))
    problems.install(app)
    documentation.install(app)
    checked = [Depends(known_parameters)]
    app.include_router(health.router, dependencies=checked)
    for resource in RESOURCES:
        app.include_router(resource.router, prefix=PREFIX, dependencies=checked)
    return app
