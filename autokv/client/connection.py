"""``Connection``: sends operations and waits for their answers, trying again where that may help."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Concatenate, ParamSpec, TypeVar

import httpx2

from autokv.client.following import Position
from autokv.client.jobs import events
from autokv.client.memory import Memory
from autokv.client.operation import Operation
from autokv.client.requests import build
from autokv.client.retries import Failure, accepted, lost, retrying
from autokv.wire import Event, Page, View

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", bound=View)


class Connection:
    """A server, and how patient to be with it."""

    def __init__(self, http: httpx2.Client, *, retries: int, patience: float) -> None:
        self._http = http
        self._retries = retries
        self._patience = patience
        self._memory = Memory()

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
                request = build(self._http, operation, read=position.silence)
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
                failure = lost(operation, str(self._http.base_url), error)
            if not position.over:
                time.sleep(position.wait(failure))

    def _send(self, operation: Operation[T], attempt: int) -> httpx2.Response:
        with ExitStack() as stack:
            body = stack.enter_context(operation.file.open("rb")) if operation.file else None
            request = build(self._http, operation, body=body)
            known = self._memory.ask(operation, request)
            try:
                response = self._http.send(request)
            except httpx2.TransportError as error:
                raise lost(operation, str(self._http.base_url), error) from None
        return self._memory.answer(operation, accepted(operation, response, attempt), known)


class Bound:
    """Operations on one kind of thing, sent over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


def call(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[Bound, P], T]:
    """The method that sends an operation and returns its answer."""

    def method(self: Bound, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._connection.run(operation(*args, **kwargs))

    method.__doc__ = operation.__doc__
    return method


def every(operation: Callable[P, Operation[Page[Item]]]) -> Callable[Concatenate[Bound, P], Iterator[Item]]:
    """The method that goes through every page of a list."""

    def method(self: Bound, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Item]:
        return self._connection.iterate(operation(*args, **kwargs))

    method.__doc__ = operation.__doc__
    return method
