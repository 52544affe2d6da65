"""A stage of a search space: its methods, and for each method which fields are searched and which are fixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autokv.search_spaces.domain import Choices, Domain, Scalar


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

    def method(self, params: Mapping[str, Any]) -> str:
        """The method that ``params`` choose."""
        return str(params.get(self._choice, next(iter(self.methods))))

    def document(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The stage of a configuration's document that ``params`` describe."""
        method = self.method(params)
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
