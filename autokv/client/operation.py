"""``Operation``: one request and how its answer is read; the two clients differ only in how they send it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from autokv.errors import RequestError, ServerError
from autokv.wire import Page, View

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item", bound=View)
Parameter = str | int | Sequence[str] | None


@dataclass(frozen=True)
class Operation(Generic[T_co]):
    """A request of the API, and what its answer is."""

    method: str
    path: str
    parse: Callable[[httpx2.Response], T_co]
    params: Mapping[str, Parameter] = field(default_factory=dict)
    """Those that are ``None`` are left out; of a sequence each is sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    file: Path | None = None
    """What is sent instead of JSON, read anew at each attempt."""
    seconds: float = 0.0
    """How long the server may wait on purpose before it answers."""
    repeatable: bool = True
    """Whether sending it twice does no more than sending it once."""
    remembered: bool = False
    """Whether an answer is kept, and asked for again by its ETag."""

    def with_params(self, **params: Parameter) -> Self:
        """The same with other query parameters."""
        return replace(self, params={**self.params, **params})

    @property
    def query(self) -> dict[str, str | int | Sequence[str]]:
        """The parameters that are given."""
        return {name: value for name, value in self.params.items() if value is not None}


Flow = Generator[Operation[Any], Any, T]
"""Operations that are sent one after another; each ``yield`` gets the answer to what it yields."""


def path(*parts: str) -> str:
    """A path under ``/v1``; what the caller named cannot leave its place in it.

    Raises:
        RequestError: a part is empty, or would be taken for a folder.
    """
    for part in parts:
        if part in {"", ".", ".."}:
            raise RequestError(f"{part!r} is no name or id", remedy="name what is meant")
    return "/".join(("/v1", *(quote(part, safe="") for part in parts)))


def model(kind: type[Model]) -> Callable[[httpx2.Response], Model]:
    """Reads one object.

    Raises:
        ServerError: when called, if the answer is not such an object.
    """

    def parse(response: httpx2.Response) -> Model:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            raise ServerError(
                f"answered with something that is no {kind.__name__} ({where}: {first['msg']})",
                field=str(response.request.url),
                remedy="is it an AutoKV server, and as new as this client?",
            ) from None

    return parse


def page(kind: type[Item]) -> Callable[[httpx2.Response], Page[Item]]:
    """Reads one page of a list."""
    return model(Page[kind])  # type: ignore[valid-type]


def nothing(_response: httpx2.Response) -> None:
    """For answers that have no body."""


def text(response: httpx2.Response) -> str:
    """Reads text."""
    return response.text


def content(response: httpx2.Response) -> bytes:
    """Reads bytes."""
    return response.content
