"""What a server does beside answering: jobs whose workers are gone go back into the queue, and old ones go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi.concurrency import run_in_threadpool

from autokv.errors import StorageError
from autokv.settings import Settings
from autokv.storage import Database

RETENTION_SECONDS = 600.0
"""Between two looks for jobs that are old enough to be deleted."""
_log = logging.getLogger("autokv.upkeep")


@asynccontextmanager
async def running(database: Database, settings: Settings) -> AsyncIterator[None]:
    """Keep house while the block runs; workers do the same, so a server without any is enough, and none is needed."""
    task = asyncio.create_task(_run(database, settings), name="upkeep")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _run(database: Database, settings: Settings) -> None:
    clock, due = asyncio.get_running_loop().time, 0.0
    while True:
        try:
            for job_id in await run_in_threadpool(database.queue.reap):
                _log.warning("the worker of a job is gone", extra={"job_id": job_id})
            if settings.retention_days is not None and clock() >= due:
                due = clock() + RETENTION_SECONDS
                for job_id in await run_in_threadpool(database.queue.expire, settings.retention_days):
                    _log.info("an old job was deleted", extra={"job_id": job_id})
        except StorageError as error:
            _log.warning("cannot look after jobs: %s", error)
        except Exception:
            _log.exception("cannot look after jobs")
        await asyncio.sleep(settings.lease_seconds / 3)
