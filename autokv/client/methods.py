"""Methods of both clients, each written once: what it sends, and not how it waits for the answer.

Reading one from an object of a :class:`Client` gives the method that returns the answer, from one of an
:class:`AsyncClient` the method whose answer is awaited; type checkers and ``help`` know both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from autokv.client.connection import AsyncConnection, Connection
from autokv.client.operation import Flow, Operation
from autokv.wire import Page, View

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item", bound=View)
C = TypeVar("C", bound=Connection | AsyncConnection)


class Bound(Generic[C]):
    """Operations on one kind of thing, sent over one connection."""

    def __init__(self, connection: C) -> None:
        self._connection = connection


class Method(Generic[P, T]):
    """A method that sends operations one after another; decorates the generator that yields them and gets answers.

    Another such generator goes through its ``flow``.
    """

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self.flow = flow
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, bound: None, owner: type) -> Self: ...
    @overload
    def __get__(self, bound: Bound[Connection], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, bound: Bound[AsyncConnection], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, bound: Any, owner: type) -> Any:
        if bound is None:
            return self

        @wraps(MethodType(self.flow, bound))
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - an answer, or what is awaited for it
            return bound._connection.complete(self.flow(bound, *args, **kwargs))

        return method


def call(operation: Callable[Concatenate[Any, P], Operation[T]]) -> Method[P, T]:
    """A method that sends one operation and returns its answer; decorates what makes the operation."""

    @wraps(operation)
    def flow(bound: object, /, *args: P.args, **kwargs: P.kwargs) -> Flow[T]:
        answer: T = yield operation(bound, *args, **kwargs)
        return answer

    return Method(flow)


class every(Generic[P, Item]):  # noqa: N801 - used as `call` is
    """A method that goes through every page of a list; decorates what makes the operation for the first."""

    def __init__(self, operation: Callable[Concatenate[Any, P], Operation[Page[Item]]]) -> None:
        self._operation = operation
        self.__doc__ = operation.__doc__

    @overload
    def __get__(self, bound: None, owner: type) -> Self: ...
    @overload
    def __get__(self, bound: Bound[Connection], owner: type) -> Callable[P, Iterator[Item]]: ...
    @overload
    def __get__(self, bound: Bound[AsyncConnection], owner: type) -> Callable[P, AsyncIterator[Item]]: ...
    def __get__(self, bound: Any, owner: type) -> Any:
        if bound is None:
            return self

        @wraps(MethodType(self._operation, bound))
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - an iterator of either kind
            return bound._connection.iterate(self._operation(bound, *args, **kwargs))

        return method
