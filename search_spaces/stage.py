"""What a search space is made of: stages of fields, each fixed or a parameter that is a choice or a range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import Field, ValidationError, model_validator

from autokv.config import Strict
from autokv.errors import SpaceError

Scalar = str | int | float | bool
DECIMALS = 10
"""Floats are rounded to this many decimals, so that one setting has one digest."""
MAX_CHOICES = 1000


class Chooser(Protocol):
    """The part of a trial that a space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...  # noqa: ANN401
    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True)
class Choices:
    """One of a few values."""

    values: tuple[Scalar, ...]

    def suggest(self, chooser: Chooser, name: str) -> Scalar:
        """Ask ``chooser`` for a value."""
        choice: Scalar = chooser.suggest_categorical(name, list(self.values))
        return choice

    def __contains__(self, value: object) -> bool:
        return any(value == own and isinstance(value, bool) == isinstance(own, bool) for own in self.values)

    def ends(self) -> tuple[Scalar, ...]:
        """Every value: none of them lies between others."""
        return self.values

    def grid(self) -> tuple[Scalar, ...]:
        """Every value."""
        return self.values


class Range(Strict):
    """Numbers from ``low`` to ``high``, both included; whole numbers where both ends are whole and ``step`` is."""

    low: int | float
    high: int | float
    step: int | float | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a log range needs low > 0 and no step")
        if self.step is not None and not _whole((self.high - self.low) / self.step):
            raise ValueError(f"high {self.high} is not a whole number of steps of {self.step} above low {self.low}")
        return self

    @property
    def integral(self) -> bool:
        """Whether every value is an ``int``."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    def suggest(self, chooser: Chooser, name: str) -> Scalar:
        """Ask ``chooser`` for a value."""
        if self.integral:
            return chooser.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return round(chooser.suggest_float(name, self.low, self.high, step=self.step, log=self.log), DECIMALS)

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.integral else int | float):
            return False
        inside = self.low <= value <= self.high
        return inside and (self.step is None or _whole((value - self.low) / self.step))

    def ends(self) -> tuple[Scalar, ...]:
        """The smallest and the largest value, and the one after the smallest."""
        return (self.low, self.low + (self.step or 1), self.high) if self.integral else (self.low, self.high)

    def grid(self) -> tuple[Scalar, ...]:
        """Every value.

        Raises:
            SpaceError: the range is continuous, or too fine to list.
        """
        if not self.integral and self.step is None:
            raise SpaceError("a continuous range cannot be listed", remedy="give it a step")
        step = self.step or 1
        count = round((self.high - self.low) / step) + 1
        if count > MAX_CHOICES:
            raise SpaceError(f"a range of {count} values cannot be listed", remedy=f"use at most {MAX_CHOICES}")
        return tuple(round(self.low + index * step, DECIMALS) for index in range(count))


Domain = Choices | Range


@dataclass(frozen=True)
class Parameter:
    """A field that is searched."""

    name: str
    domain: Domain


Fields = Mapping[str, Parameter | Scalar]
"""Dotted path inside a stage (``key.bits``) to what is searched there, or to its fixed value."""


@dataclass(frozen=True)
class Stage:
    """A stage's methods, each with its fields; a field that is not named keeps the configuration's default."""

    name: str
    methods: Mapping[str, Fields]

    @property
    def parameters(self) -> dict[str, Domain]:
        """Every parameter of the stage by name, the choice of method first."""
        found: dict[str, Domain] = {}
        if len(self.methods) > 1:
            found[self._choice] = Choices(tuple(self.methods))
        for method in self.methods:
            found |= {parameter.name: parameter.domain for _, parameter in self.searched(method)}
        return found

    def searched(self, method: str) -> Iterator[tuple[str, Parameter]]:
        """Path and parameter of every searched field of ``method``."""
        return ((path, field) for path, field in self.methods[method].items() if isinstance(field, Parameter))

    def document(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The stage of a configuration's document that ``params`` describe."""
        method = str(params.get(self._choice, next(iter(self.methods))))
        document: dict[str, Any] = {"method": method}
        for path, field in self.methods[method].items():
            put(document, path, params[field.name] if isinstance(field, Parameter) else field)
        return document

    def params_of(self, document: Mapping[str, Any]) -> dict[str, Scalar]:
        """The inverse of :meth:`document`, as far as names go: no value is checked.

        Raises:
            KeyError: the stage has no such method.
        """
        method = document["method"]
        fields = {parameter.name: get(document, path) for path, parameter in self.searched(method)}
        return {self._choice: method, **fields} if len(self.methods) > 1 else fields

    @property
    def _choice(self) -> str:
        return f"{self.name}.method"


def get(document: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - whatever the document holds there
    """The value at a dotted path; None where there is none."""
    value: Any = document
    for key in path.split("."):
        value = value.get(key)
        if value is None:
            break
    return value


def put(document: dict[str, Any], path: str, value: object) -> None:
    """Set the value at a dotted path, making the mappings on the way."""
    *parents, leaf = path.split(".")
    for key in parents:
        document = document.setdefault(key, {})
    document[leaf] = value


def parse_domain(value: object, where: str) -> Domain | Scalar:
    """A leaf of the YAML: a scalar is fixed, a list is a choice, ``{low, high, step, log}`` is a range.

    Raises:
        SpaceError: at ``where``, the value is none of these.
    """
    if isinstance(value, str | int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise SpaceError(f"{value} is not a finite number", field=where)
        return value
    if isinstance(value, list):
        return _choices(value, where)
    try:
        return Range.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"][:1])])
        message = first["msg"].removeprefix("Value error, ")
        raise SpaceError(
            message, field=path, remedy="write a value, a list of choices, or {low, high, step, log}"
        ) from None


def _choices(values: list[object], where: str) -> Domain | Scalar:
    scalars: list[Scalar] = []
    for index, value in enumerate(values):
        if not isinstance(value, str | int | float):
            raise SpaceError("a choice must be a single value", field=f"{where}[{index}]", remedy="list plain values")
        if value in Choices(tuple(scalars)):
            raise SpaceError(f"{value!r} is listed twice", field=f"{where}[{index}]", remedy="remove one")
        scalars.append(value)
    if not 1 <= len(scalars) <= MAX_CHOICES:
        raise SpaceError(f"has {len(scalars)} choices", field=where, remedy=f"list 1 to {MAX_CHOICES}")
    return scalars[0] if len(scalars) == 1 else Choices(tuple(scalars))


def _whole(ratio: float) -> bool:
    return abs(ratio - round(ratio)) < 1e-6
