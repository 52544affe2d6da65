"""Documents that people read and write, JSON or YAML: read, written, and what is wrong with one said in a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, to_json, to_jsonable_python

from autokv.errors import InputError, nearest
from autokv.files import read_limited

MAX_BYTES = 1 << 20
"""A document larger than this is refused unread, unless its reader allows another size."""
MAX_PROBLEMS = 100
"""Problems among which a mistyped name is looked for."""


SIZE = r"^\d+(\.\d+)? ?([kKmMgGtTpP]([iI]?[bB])?|[bB])?$"
_SIZES = TypeAdapter(ByteSize)


def _bytes(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        return float(given)
    except ValueError:
        # ByteSize itself takes no notice of what follows the unit.
        if re.match(SIZE, given.strip()) is None:
            raise ValueError("is not a size; write a number of bytes, or a size such as 2GiB or 500MB") from None
        return float(_SIZES.validate_python(given))


MemorySize = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(_bytes),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": SIZE}]}),
]
"""Bytes, as a number or as people write a size: ``2GiB``, ``500 MB``. What is stored is the number."""


Format = Literal["json", "yaml"]
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def format_of(file: str | Path) -> Format:
    """The format that a file's suffix names; JSON unless it is YAML's."""
    return "yaml" if Path(file).suffix in {".yaml", ".yml"} else "json"


def rendered(document: Any, form: Format) -> bytes:  # noqa: ANN401 - whatever JSON can hold
    """``document`` (JSON, or pydantic) as text for files; NaN and infinities, which JSON lacks, become null."""
    if form == "json":
        return to_json(document, indent=2, inf_nan_mode="null") + b"\n"
    plain = to_jsonable_python(document, inf_nan_mode="null")
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()


def read_document(path: str | Path, *, error: type[InputError], remedy: str, limit: int = MAX_BYTES) -> object:
    """The decoded JSON or YAML file at ``path``.

    Args:
        path: of the file; it opens the line of every error.
        error: what to raise.
        remedy: what to do about a file that is neither.
        limit: largest size in bytes.

    Raises:
        InputError: of the class ``error``: the file is missing, too large, or neither JSON nor YAML.
    """
    data = read_limited(path, limit=limit, error=error, remedy=remedy)
    return parse_document(data, str(path), error=error, remedy=remedy)


def parse_document(data: bytes, where: str, *, error: type[InputError], remedy: str, aliases: bool = True) -> object:
    """A document from its bytes, UTF-8; ``where`` opens the line of every error.

    JSON is tried first: YAML 1.1 reads ``1e-5`` as a text and refuses tabs.

    Raises:
        InputError: of the class ``error``: neither JSON nor YAML, or it has YAML aliases where ``aliases`` forbids
            them (a few bytes of them can mean gigabytes).
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error("is neither JSON nor YAML (not UTF-8 text)", field=where, remedy=remedy) from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        reason: Exception = problem
    try:
        if not aliases and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise error("has YAML aliases", field=where, remedy="write out what they stand for")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        reason = reason if text.lstrip().startswith(("{", "[")) else problem
    told = " ".join(str(reason).split())
    raise error(f"is neither JSON nor YAML ({told:.160})", field=where, remedy=remedy)


def first_problem(model: type[BaseModel], error: ValidationError) -> tuple[str, str, str | None]:
    """The first thing that is wrong with a document of ``model``, as its author knows it.

    Returns:
        The dotted path, without the tags that pydantic puts in for the members of a union; what is wrong there, and
        how many more problems there are; and what to write instead, where that can be told.
    """
    problems = error.errors()
    told = [_told(model, one) for one in problems[:MAX_PROBLEMS]]
    # A mistyped name is a field too many and, mostly, one too few: the first says more.
    typed = (
        one for one, problem in zip(told, problems, strict=False) if one[2] and problem["type"] == "extra_forbidden"
    )
    path, message, remedy = next(typed, told[0])
    return path, f"{message} (and {len(problems) - 1} more)" if len(problems) > 1 else message, remedy


def _told(model: type[BaseModel], first: ErrorDetails) -> tuple[str, str, str | None]:
    """The path, the message and the remedy of one problem."""
    steps = list(_steps(model, first["loc"]))
    path = [part for part, _ in steps]
    message, remedy = first["msg"], None
    if first["type"] == "value_error":  # of a validator of our own: what is wrong; what to do
        message, _, remedy = message.removeprefix("Value error, ").partition("; ")
    if first["type"] == "union_tag_invalid":
        path.append("." + first["ctx"]["discriminator"].strip("'"))
        tag, known = str(first["ctx"]["tag"]), _quoted(first["ctx"]["expected_tags"])
        message, remedy = f"{tag!r:.80} is unknown", nearest(tag, known) or f"choose from {', '.join(known)}"
    elif first["type"] == "extra_forbidden":
        message, remedy = "there is no such field", nearest(steps[-1][0][1:], steps[-1][1])
    elif first["type"] != "missing" and not isinstance(first["input"], dict | list):
        message += f", got {first['input']!r:.80}"
        if first["type"] == "literal_error":
            remedy = nearest(str(first["input"]), _quoted(first["ctx"]["expected"]))
    return "".join(path).lstrip("."), message, remedy or None


def _steps(model: type[BaseModel], location: Iterable[int | str]) -> Iterator[tuple[str, list[str]]]:
    """Each part of a location that a document has, and the names of the fields that may stand there."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        chosen = [one for one in models if part in _tags(one)] if len(models) > 1 else []
        if chosen:
            models = chosen
            continue
        fields: dict[str, FieldInfo] = {}
        for one in models:
            fields |= {name: field for own, field in one.model_fields.items() for name in _names(own, field)}
        yield f"[{part}]" if isinstance(part, int) else f".{part:.80}", list(fields)
        if isinstance(part, str):
            models = list(_models(fields[part].annotation)) if part in fields else []


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a field's annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    """What the discriminator (``method``, ``format``, ``rule``) says in a document of this member of a union."""
    said = [
        get_args(field.annotation) for field in model.model_fields.values() if get_origin(field.annotation) is Literal
    ]
    return tuple(values[0] for values in said if len(values) == 1)


def _names(name: str, field: FieldInfo) -> list[str]:
    """What a field may be called in a document."""
    alias = field.validation_alias
    return [name, *(str(one) for one in alias.choices if one != name)] if isinstance(alias, AliasChoices) else [name]


def _quoted(text: str) -> list[str]:
    """The names in a list of pydantic's: ``'a', 'b' or 'c'``."""
    return re.findall(r"'([^']*)'", text)
