"""``Hub``: one look at the database for everybody who waits for a job, however many they are."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from fastapi.sse import format_sse_event

from autokv.errors import StorageError
from autokv.storage import Database
from autokv.storage.events import StoredEvent
from autokv.wire import ENDED_STATES, Event, JobState

POLL_SECONDS = 0.2
"""Between two looks; what happened is told within about this time."""
TROUBLE_SECONDS = 1.0
"""Between two looks while the database cannot be reached."""
SECONDS_EACH = 0.001
"""For one of the streams that an event goes out to: requests get their turn in between."""
TAIL = 512
"""Events of a job that are kept for those who follow it closely; others read them from the database."""
BATCH = 500

Seen = tuple[int, JobState]
"""The number of a job's newest event, and its state, as they were just read."""
Line = tuple[int, bytes]
"""The number of an event, and what is sent of it."""
_log = logging.getLogger("autokv.waiting")


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Do ``work`` while the block runs."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Feed:
    """What is known of one job that somebody waits for."""

    def __init__(self, last: int, ended: bool) -> None:
        self.last, self.ended, self.waiting = last, ended, 0
        self.tail: deque[Line] = deque(maxlen=TAIL)
        self.changed = asyncio.Event()

    def after(self, number: int) -> list[Line] | None:
        """The events that follow ``number``, as far as they are known; ``None`` where some are not kept here."""
        if number >= self.last:
            return []
        if not self.tail or self.tail[0][0] > number + 1:
            return None
        return [line for line in self.tail if line[0] > number]

    def tell(self) -> None:
        """Wake everybody who waits."""
        self.changed.set()
        self.changed = asyncio.Event()


class Hub:
    """Follows the jobs that somebody waits for, with one query for all of them; to be used in one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[str, Feed] = {}
        self._needed = asyncio.Event()
        self._closing = False
        self.streams = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look at the database while the block runs."""
        async with beside(self._run(), "hub"):
            try:
                yield
            finally:
                self.close()

    def close(self) -> None:
        """End every stream and every wait, as a server does that is about to stop."""
        self._closing = True
        for feed in self._feeds.values():
            feed.tell()

    async def ended(self, job_id: str, seen: Seen, seconds: float) -> bool:
        """Wait until a job has ended, or is gone, at most ``seconds``; whether it did."""
        with self._following(job_id, seen) as feed, suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (feed.ended or self._closing):
                    await feed.changed.wait()
        return feed.ended

    async def lines(self, job_id: str, seen: Seen, number: int, idle_seconds: float) -> AsyncIterator[list[bytes]]:
        """The events of a job that follow ``number``, as they happen, until it has ended or is gone.

        An empty list says that nothing happened for ``idle_seconds``.
        """
        self.streams += 1
        try:
            with self._following(job_id, seen) as feed:
                while not self._closing:
                    changed, ended = feed.changed, feed.ended
                    found = feed.after(number)
                    if found is None:
                        found = await self._read(job_id, number)
                    if found:
                        number = found[-1][0]
                        yield [line for _, line in found]
                    elif ended:
                        return
                    elif feed.last <= number:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(idle_seconds):
                                await changed.wait()
                            await asyncio.sleep(random.uniform(0, SECONDS_EACH * (self.streams - 1)))
                            continue
                        yield []
                    else:
                        await asyncio.sleep(POLL_SECONDS)
        finally:
            self.streams -= 1

    @contextmanager
    def _following(self, job_id: str, seen: Seen) -> Iterator[Feed]:
        last, state = seen
        feed = self._feeds.setdefault(job_id, Feed(last, state in ENDED_STATES))
        feed.waiting += 1
        self._needed.set()
        try:
            yield feed
        finally:
            feed.waiting -= 1
            if not feed.waiting and self._feeds.get(job_id) is feed:
                del self._feeds[job_id]

    async def _run(self) -> None:
        while True:
            if not self._feeds:
                self._needed.clear()
                await self._needed.wait()
            try:
                await self._look()
            except StorageError as error:
                _log.warning("cannot tell what happens to jobs: %s", error)
                await asyncio.sleep(TROUBLE_SECONDS)
            except Exception:
                _log.exception("cannot tell what happens to jobs")
                await asyncio.sleep(TROUBLE_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self) -> None:
        asked = tuple(self._feeds)
        # Not the threads of the routes: those that are slow do not hold back what is told.
        found = await asyncio.to_thread(self._database.events.latest, asked)
        for job_id in asked:
            feed = self._feeds.get(job_id)
            if feed is None:
                continue
            last, state = found.get(job_id, (feed.last, "cancelled"))
            ended = state in ENDED_STATES
            if last == feed.last and ended == feed.ended:
                continue
            if last > feed.last:
                lines = await self._read(job_id, feed.last)
                feed.tail.extend(lines)
                ended = ended and not (lines and lines[-1][0] < last)
                last = lines[-1][0] if lines else last
            feed.last, feed.ended = last, ended
            feed.tell()

    async def _read(self, job_id: str, after: int) -> list[Line]:
        events = await asyncio.to_thread(self._database.events.of, job_id, after, BATCH)
        return [(event.number, line(job_id, event)) for event in events]


def line(job_id: str, event: StoredEvent) -> bytes:
    """An event as it is sent."""
    told = Event(number=event.number, kind=event.kind, job=job_id, time=event.time, data=dict(event.data))
    return format_sse_event(data_str=told.model_dump_json(), event=event.kind, id=str(event.number))
