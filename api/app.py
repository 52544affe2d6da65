"""The API over one database, and what its server looks after."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool

from autokv import __version__, settings
from autokv.api import aliases, configurations, events, health, jobs, problems, resources, responses, uploads
from autokv.api.dependencies import known_parameters
from autokv.api.health import Metrics
from autokv.api.middleware import Surroundings
from autokv.api.responses import PREFIX
from autokv.api.views import Fleet
from autokv.api.waiting import Hub, beside
from autokv.errors import StorageError
from autokv.settings import Settings
from autokv.storage import Database

RESOURCES = (uploads, resources, jobs, events, configurations, aliases)
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
            await stack.enter_async_context(beside(_upkeep(database, machine), "upkeep"))
            await stack.enter_async_context(hub.running())
            yield

    app = FastAPI(title="AutoKV", version=__version__, description=DESCRIPTION, lifespan=opened)
    app.state.settings, app.state.metrics, app.state.parameters = machine, metrics, {}
    sizes = {f"{PREFIX}/{name}": machine.max_upload_bytes for name in FILES}
    app.add_middleware(partial(Surroundings, metrics=metrics, uploads=sizes))
    problems.install(app)
    responses.install(app)
    checked = [Depends(known_parameters)]
    app.include_router(health.router, dependencies=checked)
    for resource in RESOURCES:
        app.include_router(resource.router, prefix=PREFIX, dependencies=checked)
    return app


RETENTION_SECONDS = 600.0
"""Between two looks for jobs that are old enough to be deleted."""
_log = logging.getLogger("autokv.upkeep")


async def _upkeep(database: Database, machine: Settings) -> None:
    """Keep house; workers do the same, so a server without any is enough, and none is needed."""
    clock, due = asyncio.get_running_loop().time, 0.0
    while True:
        try:
            for job_id in await run_in_threadpool(database.queue.reap):
                _log.warning("the worker of a job is gone", extra={"job_id": job_id})
            if machine.retention_days is not None and clock() >= due:
                due = clock() + RETENTION_SECONDS
                for job_id in await run_in_threadpool(database.queue.expire, machine.retention_days):
                    _log.info("an old job was deleted", extra={"job_id": job_id})
        except StorageError as error:
            _log.warning("cannot look after jobs: %s", error)
        except Exception:
            _log.exception("cannot look after jobs")
        await asyncio.sleep(machine.lease_seconds / 3)
