"""What the commands that read a trace share: how its columns are called, and what reads its texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autokv.errors import RequestError

if TYPE_CHECKING:
    from autokv.workload import WorkloadTrace

COLUMNS = ("arrival", "input_tokens", "output_tokens", "session")
TIME_UNITS = ("s", "ms", "us", "ns", "iso", "mdy", "dmy")

ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="NAME=COLUMN", help=f"Column of a trace that holds {', '.join(COLUMNS)}; repeat for more."
    ),
]
TimeUnitOption = Annotated[
    str | None,
    typer.Option(metavar="UNIT", help=f"Unit of arrivals, or order of dates: {', '.join(TIME_UNITS)}."),
]
TokenizerOption = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Model whose tokenizer counts a trace of texts.")
]
HashBlockSizeOption = Annotated[
    int | None,
    typer.Option("--hash-block-size", min=1, help="Tokens per hashed block of prompts; default: by the lengths."),
]
BadRowsOption = Annotated[
    float | None,
    typer.Option("--max-bad-rows", min=0, max=1, help="Largest share of bad rows to leave out; default: 0.01."),
]


def read(
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
    from autokv.workload import read_trace

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
    return read_trace(path, **options)


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
