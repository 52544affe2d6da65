"""``Connection`` and ``AsyncConnection``: send operations, and try again where that may help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, closing
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx2

from autokv.client.following import Position
from autokv.client.jobs import events
from autokv.client.memory import Memory
from autokv.client.operation import Flow, Operation
from autokv.client.retries import Failure, accepted, async_retrying, lost, retrying
from autokv.wire import Event, Page, View

T = TypeVar("T")
Item = TypeVar("Item", bound=View)

CHUNK_BYTES = 1 << 18
"""Of a file, sent at once."""


class Connection:
    """A server, and how patient to be with it."""

    def __init__(self, http: httpx2.Client, *, retries: int, patience: float) -> None:
        self._http = http
        self._retries = retries
        self._patience = patience
        self._memory = Memory()
        self.url = str(http.base_url)

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
            operation, failure = events(job, position.number), None
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


class AsyncConnection:
    """The same for an event loop."""

    def __init__(self, http: httpx2.AsyncClient, *, retries: int, patience: float) -> None:
        self._http = http
        self._retries = retries
        self._patience = patience
        self._memory = Memory()
        self.url = str(http.base_url)

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
            operation, failure = events(job, position.number), None
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
