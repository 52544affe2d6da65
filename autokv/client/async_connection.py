"""``AsyncConnection``: the same as :class:`~autokv.client.connection.Connection`, for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx2

from autokv.client.following import Position
from autokv.client.jobs import events
from autokv.client.memory import Memory
from autokv.client.operation import Operation
from autokv.client.requests import build, chunks
from autokv.client.retries import Failure, accepted, async_retrying, lost
from autokv.wire import Event, Page, View

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", bound=View)


class AsyncConnection:
    """A server, and how patient to be with it."""

    def __init__(self, http: httpx2.AsyncClient, *, retries: int, patience: float) -> None:
        self._http = http
        self._retries = retries
        self._patience = patience
        self._memory = Memory()

    async def run(self, operation: Operation[T]) -> T:
        """Send an operation and read its answer; raises as the other connection does."""
        try:
            async for attempt in async_retrying(self._retries, asyncio.sleep):
                with attempt:
                    response = await self._send(operation, attempt.retry_state.attempt_number)
        except Failure as failure:
            raise failure.error from None
        return operation.parse(response)

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
                request = build(self._http, operation, read=position.silence)
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
                failure = lost(operation, str(self._http.base_url), error)
            if not position.over:
                await asyncio.sleep(position.wait(failure))

    async def _send(self, operation: Operation[T], attempt: int) -> httpx2.Response:
        request = build(self._http, operation, body=chunks(operation.file) if operation.file else None)
        known = self._memory.ask(operation, request)
        try:
            response = await self._http.send(request)
        except httpx2.TransportError as error:
            raise lost(operation, str(self._http.base_url), error) from None
        return self._memory.answer(operation, accepted(operation, response, attempt), known)


class AsyncBound:
    """Operations on one kind of thing, sent over one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection


def call(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[AsyncBound, P], Coroutine[Any, Any, T]]:
    """The method that sends an operation and returns its answer."""

    async def method(self: AsyncBound, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._connection.run(operation(*args, **kwargs))

    method.__doc__ = operation.__doc__
    return method


def every(operation: Callable[P, Operation[Page[Item]]]) -> Callable[Concatenate[AsyncBound, P], AsyncIterator[Item]]:
    """The method that goes through every page of a list."""

    def method(self: AsyncBound, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Item]:
        return self._connection.iterate(operation(*args, **kwargs))

    method.__doc__ = operation.__doc__
    return method
