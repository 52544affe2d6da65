"""What the commands that read a trace share: how its columns are called, and what reads its texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autokv.errors import RequestError

if TYPE_CHECKING:
    from autokv.workload import WorkloadTrace

COLUMNS = ("arrival", "input_tokens", "output_tokens", "session")
TIME_UNITS = ("s", "ms", "us", "ns", "iso")

ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="NAME=COLUMN", help=f"Where a plain CSV or JSONL has {', '.join(COLUMNS)}; repeat for more."
    ),
]
TimeUnitOption = Annotated[
    str | None,
    typer.Option(metavar="UNIT", help=f"Of the arrivals, where it is not the format's: {', '.join(TIME_UNITS)}."),
]
TokenizerOption = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Model whose tokenizer counts a trace of texts (ShareGPT).")
]
BadRowsOption = Annotated[
    float | None, typer.Option("--max-bad-rows", min=0, max=1, help="Share of bad rows that is left out; 0.01.")
]


def read(
    path: Path,
    columns: list[str] | None = None,
    time_unit: str | None = None,
    tokenizer: str | None = None,
    max_bad_rows: float | None = None,
) -> WorkloadTrace:
    """Read the trace at ``path`` as the options say.

    Raises:
        WorkloadError: it cannot be read.
        RequestError: an option makes no sense.
    """
    from autokv.workload import read_trace

    options: dict[str, Any] = {}
    if columns:
        options["columns"] = _columns(columns)
    if time_unit is not None:
        if time_unit not in TIME_UNITS:
            raise RequestError(f"is {time_unit!r}", field="--time-unit", remedy=f"choose from {', '.join(TIME_UNITS)}")
        options["time_unit"] = time_unit
    if tokenizer is not None:
        from autokv.models.tokenizer import load_tokenizer

        options["tokenizer"] = load_tokenizer(tokenizer)
    if max_bad_rows is not None:
        options["max_rejected_share"] = max_bad_rows
    return read_trace(path, **options)


def _columns(given: list[str]) -> dict[str, str]:
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
