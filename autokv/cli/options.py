"""Options that are made from the fields of a request, that several commands have, or that had another name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import typer
from typer.core import TyperCommand

from autokv.cli import complete
from autokv.documents import MemorySize
from autokv.errors import RequestError
from autokv.tuning.request import Option, SearchFields, TraceField

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from autokv.workload import WorkloadTrace

Given = Mapping[str, Any]
"""Fields of a request that were given as options."""
Command = Callable[..., None]


EARLIER = {
    "--max-batched-tokens": "--max-num-batched-tokens",
    "--max-sequences": "--max-num-seqs",
    "--page-tokens": "--block-size",
    "--block-size": "--hash-block-size",
    "--estimate": "--run-on=any",
}
"""Earlier name to the name now, or to a value of it.

A command that calls an option of its own by an earlier name means that option.
"""


class Renamed(TyperCommand):
    """A command whose options are also taken by their earlier names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the class is typer's own
        """Read ``args`` with earlier names replaced, up to a bare ``--``."""
        own = {name for option in self.params for name in option.opts}
        renamed = {old: new for old, new in EARLIER.items() if old not in own and new.partition("=")[0] in own}
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*(_now(arg, renamed) for arg in args[:end]), *args[end:]])


def _now(arg: str, renamed: dict[str, str]) -> str:
    name, equals, value = arg.partition("=")
    return f"{renamed.get(name, name)}{equals}{value}"


def takes(model: type[BaseModel], *names: str) -> Callable[[Command], Command]:
    """Give a command an option for each field of ``model``, or for those of ``names``.

    They take the place of its parameter ``given``, which gets the fields that were given, to be validated by ``model``.
    """
    fields = {name: model.model_fields[name] for name in names or model.model_fields}
    options = [_parameter(name, field) for name, field in fields.items()]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(context: typer.Context, **values: Any) -> None:  # noqa: ANN401 - of every option
            given = {}
            for name, field in fields.items():
                value, source = values.pop(name), context.get_parameter_source(name)
                if source is not None and source.name != "DEFAULT":
                    given[name] = _value(name, field, value)
            command(**values, given=given)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [part for each in own for part in (options if each.name == "given" else [each])]
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (context, *parameters)]
        run.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
        return run

    return decorate


def option_of(name: str, field: FieldInfo) -> str:
    """The option that gives a field, such as ``--max`` for ``maximums``."""
    return _told(field).option or f"--{name.replace('_', '-')}"


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """A field as Typer declares an option; a bound that is open is left to the model."""
    told, inner, default = _told(field), _inner(field), field.get_default(call_default_factory=True)
    kind: Any
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    metavar = told.metavar or (f"[{'|'.join(choices)}]" if choices else None)
    if get_origin(inner) is dict:
        kind, default = list[str], [f"{key}={value}" for key, value in default.items()] or None
        metavar = metavar or "NAME=VALUE"
    elif get_origin(inner) is tuple:
        kind, default = list[str], [*default] or None
    else:
        kind, default = inner if inner in (int, float, bool) else str, None if field.is_required() else default
    option = option_of(name, field)
    limits = {one: getattr(each, one) for each in field.metadata for one in ("ge", "le") if hasattr(each, one)}
    declared = typer.Option(
        default,
        f"{option}/--no-{option[2:]}" if kind is bool and default is not False else option,
        help=f"{field.description}{' Repeat for more.' if kind == list[str] else ''}",
        metavar=metavar,
        autocompletion=complete.among(choices) if choices else getattr(complete, told.completes or "", None),
        min=limits.get("ge"),
        max=limits.get("le") if "ge" in limits else None,
    )
    annotation = kind | None if default is None else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=declared, annotation=annotation)


def _value(name: str, field: FieldInfo, given: Any) -> Any:  # noqa: ANN401 - of any field
    """What an option says, as the field takes it.

    Raises:
        RequestError: it is malformed.
    """
    inner, option = _inner(field), option_of(name, field)
    if inner == MemorySize:
        return byte_size(given, option)
    if get_origin(inner) is not dict:
        return given
    key, value = get_args(inner)
    if value is float:
        return bounds(given, option)
    return column_map(given) if get_origin(key) is Literal else label_map(",".join(given), option)


def _told(field: FieldInfo) -> Option:
    return next((each for each in field.metadata if isinstance(each, Option)), Option())


def _inner(field: FieldInfo) -> Any:  # noqa: ANN401 - a type
    """The type of a field that may also be ``None``, or the first of several."""
    if get_origin(field.annotation) not in (Union, UnionType):
        return field.annotation
    return next(each for each in get_args(field.annotation) if each is not NoneType)


def read_trace(path: Path, given: Given) -> WorkloadTrace:
    """Read the trace at ``path`` as the options say, which are :data:`autokv.tuning.request.READING`.

    Raises:
        WorkloadError: it cannot be read.
        RequestError: an option makes no sense.
    """
    from autokv import workload

    options = {name: given[name] for name in ("columns", "hash_block_size", "time_unit") if name in given}
    units = get_args(_inner(SearchFields.model_fields["time_unit"]))
    if options.get("time_unit", units[0]) not in units:
        raise RequestError(f"is {given['time_unit']!r}", field="--time-unit", remedy=f"choose from {', '.join(units)}")
    if "tokenizer" in given:
        from autokv.models.loading import LazyTokenizer

        options["tokenizer"] = LazyTokenizer(given["tokenizer"])
    if "max_bad_rows" in given:
        options["max_rejected_share"] = given["max_bad_rows"]
    return workload.read_trace(path, **options)


def column_map(given: list[str]) -> dict[str, str]:
    """Field to column, of every use of ``--column``.

    Raises:
        RequestError: one is not of the form NAME=COLUMN, or names no field.
    """
    columns: dict[str, str] = {}
    *names, last = get_args(TraceField)
    for item in given:
        name, _, column = item.partition("=")
        if name not in (*names, last) or not column:
            raise RequestError(
                f"{item!r} is not NAME=COLUMN", field="--column", remedy=f"NAME is {', '.join(names)} or {last}"
            )
        columns[name] = column
    return columns


def check_output(out: Path, force: bool, source: Path | None = None) -> None:
    """Nothing is written onto the trace that is read, by whatever name, or unasked onto any other file.

    Raises:
        RequestError: ``out`` is the file ``source``, or is there and ``force`` is not given.
    """
    try:
        there, same = out.exists(), source is not None and out.exists() and out.samefile(source)
    except OSError:  # reading and writing say what is wrong
        return
    if same:
        raise RequestError("is the trace that is read", field=str(out), remedy="name another file to write")
    if there and not force:
        raise RequestError("exists already", field=str(out), remedy="name another file, or replace it with --force")


def bounds(given: list[str] | None, option: str) -> dict[str, float] | None:
    """``NAME=VALUE`` of every use of an option, several of them between commas or spaces.

    Raises:
        RequestError: one is not of that form.
    """
    found = {}
    for item in (item for text in given or () for item in re.split(r"[,\s]+", text.strip())):
        name, sign, value = item.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            sign = ""
        if not sign:
            raise RequestError(f"{item!r} is not NAME=VALUE", field=option, remedy="such as kl_divergence=0.05")
    return found or None


def label_map(text: str, option: str) -> dict[str, str]:
    """``NAME=VALUE`` of every label between commas.

    Raises:
        RequestError: one is not of that form.
    """
    from pydantic import TypeAdapter, ValidationError

    from autokv.tuning.request import Labels

    items = [item.strip() for item in text.split(",") if item.strip()]
    try:
        return TypeAdapter(Labels).validate_python(dict(item.split("=", 1) for item in items))
    except (ValidationError, ValueError):
        raise RequestError(
            f"{text!r} is not NAME=VALUE,…", field=option, remedy="such as zone=a,tier=b: letters, digits and ._-/"
        ) from None


def byte_size(text: str, option: str) -> float:
    """Bytes of ``2GiB``, ``500 MB`` or ``1e9``.

    Raises:
        RequestError: it is not a positive size.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(MemorySize).validate_python(text)
    except ValidationError:
        raise RequestError(f"{text!r} is not a size", field=option, remedy="such as 2GiB or 500MB") from None
