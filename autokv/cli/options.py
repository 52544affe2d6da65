"""Options that several commands share: of a search, of a trace, and the values that both take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autokv.cli import complete
from autokv.errors import RequestError

if TYPE_CHECKING:
    from autokv.workload import WorkloadTrace

COLUMNS = ("arrival", "input_tokens", "output_tokens", "session")
TIME_UNITS = ("s", "ms", "us", "ns", "iso", "mdy", "dmy")

Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="NAME=COLUMN", help=f"Column of a trace that holds {', '.join(COLUMNS)}; repeat for more."
    ),
]
TimeUnit = Annotated[
    str | None,
    typer.Option(metavar="UNIT", help=f"Unit of arrivals, or order of dates: {', '.join(TIME_UNITS)}."),
]
TraceTokenizer = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Model whose tokenizer counts a trace of texts.")
]
HashBlockSize = Annotated[
    int | None,
    typer.Option("--hash-block-size", min=1, help="Tokens per hashed block of prompts; default: by the lengths."),
]
BadRows = Annotated[
    float | None,
    typer.Option("--max-bad-rows", min=0, max=1, help="Largest share of bad rows to leave out; default: 0.01."),
]


Rate = Annotated[float | None, typer.Option(help="Requests per second, instead of the trace's own.")]
Slo = Annotated[
    list[str] | None, typer.Option(help="ttft_ms=VALUE or tpot_ms=VALUE; repeat for both.", autocompletion=complete.slo)
]
KvMemory = Annotated[str | None, typer.Option(help="Memory for KV caches, such as 2GiB.")]
Scenario = Annotated[
    str | None,
    typer.Option(help="Deployment scenario; default: what the trace looks like.", autocompletion=complete.scenario),
]
Tokenizer = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Model whose tokenizer counts a trace of texts; default: --model.")
]
Prompts = Annotated[str | None, typer.Option(help="JSONL file: prompt, optional completion or answers.")]
Tasks = Annotated[bool | None, typer.Option(help="Use generated tasks as prompts, or do not check tasks at all.")]
Space = Annotated[str | None, typer.Option(help="Search space: a name or a YAML file.", autocompletion=complete.space)]
Objective = Annotated[
    list[str] | None, typer.Option(help="Metric to optimise; repeat for more.", autocompletion=complete.metric)
]
Maximum = Annotated[
    list[str] | None,
    typer.Option("--max", help="METRIC=VALUE: at most; repeat for more.", autocompletion=complete.bound),
]
Minimum = Annotated[
    list[str] | None,
    typer.Option("--min", help="METRIC=VALUE: at least; repeat for more.", autocompletion=complete.bound),
]
Utility = Annotated[str | None, typer.Option(help="Metric that decides what is recommended.")]
PricePerHour = Annotated[float | None, typer.Option(help="Price of the device per hour: shows the price per token.")]
Sampler = Annotated[str | None, typer.Option(help="tpe, nsgaii, gp or random.", autocompletion=complete.sampler)]
Trials = Annotated[int | None, typer.Option(help="Number of configurations to try.")]
BatchSize = Annotated[int | None, typer.Option(help="Configurations to try at once.")]
Timeout = Annotated[float | None, typer.Option(help="Stop the search after this many seconds.")]
Patience = Annotated[int | None, typer.Option(help="Stop after this many trials without improvement.")]
Seed = Annotated[int | None, typer.Option(help="Random seed.")]
Samples = Annotated[int | None, typer.Option(help="Number of calibration prompts.")]
ValidationSamples = Annotated[int | None, typer.Option(help="Number of validation prompts.")]
ContextTokens = Annotated[int | None, typer.Option(help="Context length in tokens, without a workload.")]
MaxContextTokens = Annotated[int | None, typer.Option(help="Longest context in tokens.")]
ContinuationTokens = Annotated[int | None, typer.Option(help="Number of tokens judged after each context.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.", autocompletion=complete.dtype)]


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that were given as options, by the parameters' names.

    Raises:
        RequestError: a bound or a size is malformed.
    """
    memory = options["kv_memory"]
    fields = {
        **options,
        "slo": bounds(options["slo"], "--slo"),
        "columns": column_map(options["column"]) if options["column"] else None,
        "kv_memory": None if memory is None else byte_size(memory, "--kv-memory"),
        "objectives": options["objective"] or None,
        "maximums": bounds(options["maximum"], "--max"),
        "minimums": bounds(options["minimum"], "--min"),
    }
    renamed = {"column", "objective", "maximum", "minimum"}
    return {name: value for name, value in fields.items() if value is not None and name not in renamed}


def read_trace(
    path: Path,
    columns: list[str] | None = None,
    time_unit: str | None = None,
    tokenizer: str | None = None,
    hash_block_size: int | None = None,
    max_bad_rows: float | None = None,
) -> WorkloadTrace:
    """Read the trace at ``path`` as the options say.

    Raises:
        WorkloadError: it cannot be read.
        RequestError: an option makes no sense.
    """
    from autokv import workload

    options: dict[str, Any] = {"hash_block_size": hash_block_size}
    if columns:
        options["columns"] = column_map(columns)
    if time_unit is not None:
        if time_unit not in TIME_UNITS:
            raise RequestError(f"is {time_unit!r}", field="--time-unit", remedy=f"choose from {', '.join(TIME_UNITS)}")
        options["time_unit"] = time_unit
    if tokenizer is not None:
        from autokv.models.tokenizer import LazyTokenizer

        options["tokenizer"] = LazyTokenizer(tokenizer)
    if max_bad_rows is not None:
        options["max_rejected_share"] = max_bad_rows
    return workload.read_trace(path, **options)


def column_map(given: list[str]) -> dict[str, str]:
    """Field to column, of every use of ``--column``.

    Raises:
        RequestError: one is not of the form NAME=COLUMN, or names no field.
    """
    columns: dict[str, str] = {}
    for item in given:
        name, _, column = item.partition("=")
        if name not in COLUMNS or not column:
            raise RequestError(
                f"{item!r} is not NAME=COLUMN",
                field="--column",
                remedy=f"NAME is {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}",
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

    from autokv.wire import Labels

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

    from autokv.documents import MemorySize

    try:
        return TypeAdapter(MemorySize).validate_python(text)
    except ValidationError:
        raise RequestError(f"{text!r} is not a size", field=option, remedy="such as 2GiB or 500MB") from None
