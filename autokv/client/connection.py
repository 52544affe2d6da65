"""``Connection`` and ``AsyncConnection``: send operations, and try again where that may help.

Answers that have an ETag are kept, so that what has not changed does not travel again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, closing
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import httpx2

from autokv import settings
from autokv.client.operation import Flow, Operation, nothing, path
from autokv.client.retries import Failure, Position, accepted, async_retrying, lost, retrying
from autokv.errors import RequestError
from autokv.wire import Event, Page, View

T = TypeVar("T")
Item = TypeVar("Item", bound=View)
H = TypeVar("H", httpx2.Client, httpx2.AsyncClient)

CHUNK_BYTES = 1 << 18
"""Of a file, sent at once."""
LARGEST = 256
"""Answers that are kept at most; the longest unused goes first."""


def http_options(url: str | None, timeout: float) -> dict[str, Any]:
    """Options of an HTTP client for ``url``, the settings' server, or the local one.

    Raises:
        RequestError: it is no HTTP URL.
    """
    server = (url or settings.current().server_url or settings.LOCAL_SERVER).rstrip("/")
    try:
        parsed = httpx2.URL(server)
    except httpx2.InvalidURL as error:
        raise RequestError(str(error), field=server, remedy=f"such as {settings.LOCAL_SERVER}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise RequestError("is no HTTP URL", field=server, remedy=f"such as {settings.LOCAL_SERVER}")
    return {"base_url": server, "timeout": timeout, "headers": {"User-Agent": f"autokv/{version('autokv')}"}}


class _Memory:
    """Answers by address and media type. Safe with threads."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str], httpx2.Response] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, operation: Operation[Any], request: httpx2.Request) -> httpx2.Response | None:
        """What is known of an answer; ``request`` is made to ask whether it is still so."""
        if not operation.remembered:
            return None
        with self._lock:
            known = self._answers.get(_key(request))
        if known is not None:
            request.headers["If-None-Match"] = known.headers["ETag"]
        return known

    def answer(
        self, operation: Operation[Any], response: httpx2.Response, known: httpx2.Response | None
    ) -> httpx2.Response:
        """The answer: the one that is known where the server says that it is still so, else the new one, kept."""
        if response.status_code == 304 and known is not None:
            response = known
        if operation.remembered and "ETag" in response.headers:
            with self._lock:
                self._answers[_key(response.request)] = response
                self._answers.move_to_end(_key(response.request))
                while len(self._answers) > LARGEST:
                    self._answers.popitem(last=False)
        return response


def _key(request: httpx2.Request) -> tuple[str, str]:
    return str(request.url), request.headers.get("Accept", "")


class _Connected(Generic[H]):
    """A server, and how patient to be with it."""

    def __init__(self, http: H, *, retries: int, patience: float) -> None:
        self._http: H = http
        self._retries = retries
        self._patience = patience
        self._memory = _Memory()
        self.url = str(http.base_url)


class Connection(_Connected[httpx2.Client]):
    """Waits for the answers."""

    def run(self, operation: Operation[T]) -> T:
        """Send an operation and read its answer.

        Raises:
            AutoKVError: as the server's problem says.
            ServerError: it cannot be reached, or what it answers is not this API's.
        """
        try:
            for attempt in retrying(self._retries, time.sleep):
                with attempt:
                    response = self._send(operation, attempt.retry_state.attempt_number)
        except Failure as failure:
            raise failure.error from None
        return operation.parse(response)

    def complete(self, flow: Flow[T]) -> T:
        """Send the operations of ``flow``, one after another."""
        try:
            operation = next(flow)
            while True:
                operation = flow.send(self.run(operation))
        except StopIteration as end:
            answer: T = end.value
        return answer

    def iterate(self, operation: Operation[Page[Item]]) -> Iterator[Item]:
        """The items of a list, page by page as they are asked for."""
        while True:
            page = self.run(operation)
            yield from page.items
            if page.next is None:
                return
            operation = operation.with_params(cursor=page.next)

    def follow(self, job: str, *, after: int = 0, deadline: float | None = None) -> Iterator[Event]:
        """What happens to a job, over lost connections and restarts of the server, until it has ended.

        Raises:
            AutoKVError: the server has no such job, or could not be reached for too long.
            TimeoutError: ``deadline`` (of ``time.monotonic``) has passed.
        """
        position = Position(after, self._patience, deadline)
        while not position.over:
            operation, failure = _events(job, position.number), None
            try:
                request = _build(self._http, operation, read=position.silence)
                with closing(self._http.send(request, stream=True)) as response:
                    if response.is_error:
                        response.read()
                    if accepted(operation, response).status_code == 204:
                        return
                    position.connected()
                    for sent in httpx2.EventSource(response):
                        if event := position.read(sent):
                            yield event
            except Failure as error:
                failure = error
            except httpx2.TransportError as error:
                failure = lost(operation, self.url, error)
            if not position.over:
                time.sleep(position.wait(failure))

    def _send(self, operation: Operation[T], attempt: int) -> httpx2.Response:
        with ExitStack() as stack:
            body = stack.enter_context(operation.file.open("rb")) if operation.file else None
            request = _build(self._http, operation, body=body)
            known = self._memory.ask(operation, request)
            try:
                response = self._http.send(request)
            except httpx2.TransportError as error:
                raise lost(operation, self.url, error) from None
        return self._memory.answer(operation, accepted(operation, response, attempt), known)


class AsyncConnection(_Connected[httpx2.AsyncClient]):
    """The same for an event loop."""

    async def run(self, operation: Operation[T]) -> T:
        """Send an operation and read its answer; raises as the other connection does."""
        try:
            async for attempt in async_retrying(self._retries, asyncio.sleep):
                with attempt:
                    response = await self._send(operation, attempt.retry_state.attempt_number)
        except Failure as failure:
            raise failure.error from None
        return operation.parse(response)

    async def complete(self, flow: Flow[T]) -> T:
        """Send the operations of ``flow``, one after another."""
        try:
            operation = next(flow)
            while True:
                operation = flow.send(await self.run(operation))
        except StopIteration as end:
            answer: T = end.value
        return answer

    async def iterate(self, operation: Operation[Page[Item]]) -> AsyncIterator[Item]:
        """The items of a list, page by page as they are asked for."""
        while True:
            page = await self.run(operation)
            for item in page.items:
                yield item
            if page.next is None:
                return
            operation = operation.with_params(cursor=page.next)

    async def follow(self, job: str, *, after: int = 0, deadline: float | None = None) -> AsyncIterator[Event]:
        """What happens to a job until it has ended; raises as the other connection does."""
        position = Position(after, self._patience, deadline)
        while not position.over:
            operation, failure = _events(job, position.number), None
            try:
                request = _build(self._http, operation, read=position.silence)
                async with aclosing(await self._http.send(request, stream=True)) as response:
                    if response.is_error:
                        await response.aread()
                    if accepted(operation, response).status_code == 204:
                        return
                    position.connected()
                    async for sent in httpx2.EventSource(response):
                        if event := position.read(sent):
                            yield event
            except Failure as error:
                failure = error
            except httpx2.TransportError as error:
                failure = lost(operation, self.url, error)
            if not position.over:
                await asyncio.sleep(position.wait(failure))

    async def _send(self, operation: Operation[T], attempt: int) -> httpx2.Response:
        request = _build(self._http, operation, body=_chunks(operation.file) if operation.file else None)
        known = self._memory.ask(operation, request)
        try:
            response = await self._http.send(request)
        except httpx2.TransportError as error:
            raise lost(operation, self.url, error) from None
        return self._memory.answer(operation, accepted(operation, response, attempt), known)


def _events(job: str, after: int) -> Operation[None]:
    """What happens to a job, behind event ``after``."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
    return Operation("GET", path("jobs", job, "events"), nothing, headers=headers)


def _build(
    http: httpx2.Client | httpx2.AsyncClient,
    operation: Operation[Any],
    *,
    body: IO[bytes] | AsyncIterator[bytes] | None = None,
    read: float | None = None,
) -> httpx2.Request:
    """The request; ``read`` seconds of silence are allowed instead of the client's own."""
    own = http.timeout
    if read is None and own.read is not None:
        read = own.read + operation.seconds
    headers = dict(operation.headers)
    if operation.file is not None:
        headers["Content-Length"] = str(operation.file.stat().st_size)
    timeout = httpx2.Timeout(connect=own.connect, read=read, write=own.write, pool=own.pool)
    return http.build_request(
        operation.method,
        operation.path,
        params=operation.query,
        headers=headers,
        json=operation.json,
        content=body,
        timeout=timeout,
    )


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, read beside the event loop."""
    with await asyncio.to_thread(file.open, "rb") as opened:
        while chunk := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            yield chunk
