"""The YAML of a search space: read, validated against the configuration's own schema, and built.

A space is written like a configuration. Each stage is a list of alternatives; an alternative has one ``method`` or a
list of them, and fields whose value is fixed, a list of choices, or ``{low, high, step, log}``. ``literature`` lists
whole pipelines by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from autokv.config import CompressionConfig, Strict
from autokv.documents import first_problem, read_document
from autokv.errors import ConfigError, SpaceError
from autokv.search_spaces.fitting import largest
from autokv.search_spaces.space import SearchSpace
from autokv.search_spaces.stage import Domain, Fields, Parameter, Scalar, Stage, parse_domain, put

MAX_FIELDS = 1000
"""Fields that one alternative may name; a file with more is refused."""
REMEDY = "see the built-in spaces for the form"
Leaves = dict[str, Domain | Scalar]


class LiteratureEntry(Strict):
    name: str = Field(min_length=1, max_length=100)
    pipeline: dict[str, Any]


class StagesDocument(Strict):
    eviction: list[dict[str, Any]] = Field(default=[{"method": "none"}], min_length=1)
    quantization: list[dict[str, Any]] = Field(default=[{"method": "none"}], min_length=1)
    low_rank: list[dict[str, Any]] = Field(default=[{"method": "none"}], min_length=1)


class SpaceDocument(Strict):
    """The file as it is written."""

    schema_version: Literal["autokv-space/v1"] = "autokv-space/v1"
    name: str = Field(min_length=1, max_length=100)
    description: str = ""
    stages: StagesDocument
    literature: list[LiteratureEntry] = Field(default_factory=list)


def read_space(path: Path) -> SearchSpace:
    """Read a search space from a YAML file.

    Raises:
        SpaceError: the file cannot be read, is neither YAML nor JSON, or is not a search space.
    """
    return build_space(read_document(path, error=SpaceError, remedy=REMEDY), str(path))


def build_space(document: object, where: str) -> SearchSpace:
    """Validate a decoded document and build the space; ``where`` (a file name) opens the path in every error.

    Raises:
        SpaceError: naming the first field that is wrong.
    """
    try:
        parsed = SpaceDocument.model_validate(document)
    except ValidationError as error:
        path, message, remedy = first_problem(SpaceDocument, error)
        raise SpaceError(message, field=f"{where}: {path}" if path else where, remedy=remedy or REMEDY) from None
    stages = {name: _stage(name, alternatives, where) for name, alternatives in parsed.stages}
    space = SearchSpace(parsed.name, parsed.description, stages)
    literature: dict[str, CompressionConfig] = {}
    for index, entry in enumerate(parsed.literature):
        path = f"{where}: literature[{index}] ({entry.name})"
        if entry.name in literature:
            raise SpaceError("is named twice", field=path, remedy="rename one")
        try:
            config = CompressionConfig.parse({"pipeline": entry.pipeline})
            space.params_of(config)
        except (ConfigError, SpaceError) as error:
            raise SpaceError(error.message, field=f"{path}.{error.field}", remedy=error.remedy) from None
        literature[entry.name] = config
    return SearchSpace(parsed.name, parsed.description, stages, literature)


def _stage(name: str, alternatives: list[dict[str, Any]], where: str) -> Stage:
    parsed: list[tuple[list[str], Leaves]] = []
    seen: set[str] = set()
    for index, alternative in enumerate(alternatives):
        path = f"{where}: stages.{name}[{index}]"
        methods = _methods(alternative, path)
        twice = seen.intersection(methods)
        if twice or len(set(methods)) < len(methods):
            raise SpaceError(f"a method is listed twice: {', '.join(sorted(twice) or methods)}", field=f"{path}.method")
        seen.update(methods)
        leaves = dict(_leaves({key: value for key, value in alternative.items() if key != "method"}, path))
        for method in methods:
            _check(name, method, leaves, path)
        parsed.append((methods, leaves))
    return Stage(name, dict(_named(name, parsed)))


def _named(stage: str, parsed: list[tuple[list[str], Leaves]]) -> Iterator[tuple[str, Fields]]:
    """Each method's fields, its parameters named; a field has one name where all its domains agree."""
    for methods, leaves in parsed:
        fields: dict[str, Parameter | Scalar] = {}
        for path, leaf in leaves.items():
            if isinstance(leaf, str | int | float):
                fields[path] = leaf
                continue
            domains = [other[path] for _, other in parsed if not isinstance(other.get(path, 0), str | int | float)]
            suffix = "" if all(domain == leaf for domain in domains) else f"@{methods[0]}"
            fields[path] = Parameter(f"{stage}.{path}{suffix}", leaf)
        for method in methods:
            yield method, fields


def _methods(alternative: Mapping[str, Any], path: str) -> list[str]:
    methods = alternative.get("method")
    methods = methods if isinstance(methods, list) else [methods]
    if not methods or not all(isinstance(method, str) for method in methods):
        raise SpaceError("a method, or a list of methods, is missing", field=f"{path}.method", remedy=REMEDY)
    return methods


def _leaves(document: Mapping[Any, Any], where: str, prefix: str = "") -> Iterator[tuple[str, Domain | Scalar]]:
    for key, value in document.items():
        path = f"{prefix}{key}"
        if not (isinstance(key, str) and key.isidentifier()):
            raise SpaceError(f"{key!r} is not a field", field=where, remedy=REMEDY)
        nested = isinstance(value, dict) and not {"low", "high"}.intersection(value)
        if nested and prefix.count(".") < 2 and len(document) <= MAX_FIELDS:
            yield from _leaves(value, where, f"{path}.")
        else:
            yield path, parse_domain(value, f"{where}.{path}")


def _check(stage: str, method: str, leaves: Leaves, where: str) -> None:
    """Try the ends of every domain (every choice) in a configuration, the other fields at their largest."""
    document: dict[str, Any] = {"method": method}
    for path, leaf in leaves.items():
        put(document, path, largest(leaf if isinstance(leaf, str | int | float) else Parameter(path, leaf)))
    _parse(stage, document, where)
    for path, leaf in leaves.items():
        if isinstance(leaf, str | int | float):
            continue
        for value in leaf.ends():
            changed = deepcopy(document)
            put(changed, path, value)
            _parse(stage, changed, where)


def _parse(stage: str, document: dict[str, Any], where: str) -> None:
    # A residual correction needs a quantization to correct.
    pipeline = {"quantization": {"method": "fp8"}, stage: document}
    try:
        CompressionConfig.parse({"pipeline": pipeline})
    except ConfigError as error:
        path = (error.field or "").removeprefix("pipeline").removeprefix(f".{stage}")
        raise SpaceError(error.message, field=f"{where}{path}", remedy=error.remedy) from None
