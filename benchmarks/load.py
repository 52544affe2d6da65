"""Requests that come at a given rate whether or not earlier ones were answered, and streams that stay open meanwhile.

A program of its own, so that what it costs does not slow the server's process, over plain sockets, so that it costs
little. It reads a :class:`Plan` as JSON from standard input and writes what it measured to standard output. A latency
is counted from the moment at which the request was due to the last byte of its answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MIX = {"show": 40, "configuration": 25, "submit": 20, "list": 10, "events": 5}
"""Share of each kind of request, in percent."""
EXPECTED = {"submit": (202,), "configuration": (200, 304)}
LARGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What to ask of the server at ``port``; the first ``warm_up`` seconds do not count."""

    port: int
    rate: float
    seconds: float
    warm_up: float
    streams: int
    running: str
    finished: str
    alias: str
    submission: Mapping[str, Any]
    seed: int = 0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Seen:
    """What came back so far."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unexpected: Counter[str] = field(default_factory=Counter)
    locked: int = 0
    events: int = 0
    out_of_order: int = 0
    delays: list[float] = field(default_factory=list)
    """Seconds from the database's time of an event to its arrival."""


class Server:
    """Keeps connections open, as a client's pool does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        reader, writer = self._idle.pop() if self._idle else await self.connect()
        send(writer, method, path, headers, body)
        answer = await read_head(reader)
        if "content-length" in answer.headers:
            answer.body = await reader.readexactly(int(answer.headers["content-length"]))
        elif answer.headers.get("transfer-encoding") == "chunked":
            answer.body = b"".join([chunk async for chunk in chunks(reader)])
        self._idle.append((reader, writer))
        return answer

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[tuple[Answer, asyncio.StreamReader]]:
        reader, writer = await self.connect()
        try:
            send(writer, "GET", path, {"Accept": "text/event-stream"}, b"")
            yield await read_head(reader), reader
        finally:
            writer.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=LARGEST_LINE)


def send(writer: asyncio.StreamWriter, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)


async def read_head(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, b"")


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._server, self._seen = plan, Server(plan.port), Seen()
        self._chance = random.Random(plan.seed)
        self._jobs = [plan.running, plan.finished]
        self._etag = ""
        self._counting = False

    async def run(self) -> dict[str, Any]:
        plan, seen = self._plan, self._seen
        opened = [asyncio.Event() for _ in range(plan.streams)]
        streams = [asyncio.create_task(self._follow(one)) for one in opened]
        for one in opened:
            await one.wait()
        began = time.perf_counter()
        due, requests = began, []
        while due < began + plan.warm_up + plan.seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._counting = due >= began + plan.warm_up
            kind = self._chance.choices(list(MIX), list(MIX.values()))[0]
            requests.append(asyncio.create_task(self._request(kind, due, self._counting)))
            due += self._chance.expovariate(plan.rate)
        await asyncio.wait(requests)
        still_open = sum(not stream.done() for stream in streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        return {
            "seconds": seen.seconds,
            "unexpected": seen.unexpected,
            "locked": seen.locked,
            "streams_open": still_open,
            "events": seen.events,
            "events_out_of_order": seen.out_of_order,
            "event_delays": seen.delays,
        }

    async def _request(self, kind: str, due: float, counts: bool) -> None:
        seen, path, headers, body = self._seen, *self._compose(kind)
        try:
            answer = await self._server.ask("POST" if kind == "submit" else "GET", path, headers, body)
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.unexpected[f"{kind}: {type(error).__name__}"] += 1
            return
        if counts:
            seen.seconds[kind].append(time.perf_counter() - due)
        if answer.status not in EXPECTED.get(kind, (200,)):
            seen.unexpected[f"{kind}: {answer.status}"] += 1
            seen.locked += b"locked" in answer.body
        elif kind == "submit":
            self._jobs.append(json.loads(answer.body)["id"])
        elif kind == "configuration":
            self._etag = answer.headers["etag"]

    def _compose(self, kind: str) -> tuple[str, dict[str, str], bytes]:
        """Path, headers and body. Half of those who ask for a configuration have it already."""
        chance, plan = self._chance, self._plan
        if kind == "submit":
            submission = {**plan.submission, "seed": chance.randrange(1 << 30)}
            return "/v1/jobs", {"Idempotency-Key": f"{chance.getrandbits(64):x}"}, json.dumps(submission).encode()
        if kind == "configuration":
            known = {"If-None-Match": self._etag} if self._etag and chance.random() < 0.5 else {}
            return f"/v1/aliases/{plan.alias}/configuration", known, b""
        paths = {
            "show": f"/v1/jobs/{chance.choice(self._jobs)}",
            "list": f"/v1/jobs?limit=50{chance.choice(('', '&state=queued', '&state=done'))}",
            "events": f"/v1/jobs/{plan.finished}/events",
        }
        return paths[kind], {}, b""

    async def _follow(self, opened: asyncio.Event) -> None:
        last = 0
        try:
            async with self._server.stream(f"/v1/jobs/{self._plan.running}/events") as (answer, reader):
                if answer.status != 200:
                    self._seen.unexpected[f"stream: {answer.status}"] += 1
                    return
                opened.set()
                async for chunk in chunks(reader):
                    for line in chunk.splitlines():
                        if line.startswith(b"id:"):
                            number = int(line[3:])
                            self._seen.out_of_order += number != last + 1
                            last = number
                        elif line.startswith(b"data:") and self._counting:
                            happened = datetime.fromisoformat(json.loads(line[5:])["time"])
                            self._seen.events += 1
                            self._seen.delays.append(time.time() - happened.timestamp())
        except (OSError, asyncio.IncompleteReadError) as error:
            self._seen.unexpected[f"stream: {type(error).__name__}"] += 1
        finally:
            opened.set()


if __name__ == "__main__":
    json.dump(asyncio.run(Load(Plan(**json.load(sys.stdin))).run()), sys.stdout)
