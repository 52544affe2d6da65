"""What several commands share: their options, and tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from autokv.storage import Database

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="Database; default: AUTOKV_DATABASE_URL, or sqlite:///autokv.db."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
DtypeOption = Annotated[Dtype, typer.Option(help="Data type of the model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_existing(url: str | None, *, upgrade: bool = True) -> Database:
    """Open the database of ``--database`` or of the settings; without ``upgrade`` an older schema is refused.

    Raises:
        StorageError: it is missing or cannot be used.
    """
    from autokv import settings
    from autokv.storage import Database

    return Database(url or settings.current().database_url, create=False, upgrade=upgrade)


def print_json(value: object) -> None:
    """Print dataclasses, pydantic models, moments and plain values as JSON; NaN and infinities become null."""
    from pydantic_core import to_json

    typer.echo(to_json(value, indent=2, inf_nan_mode="null"))


def local_time(moment: datetime | None) -> str:
    """A moment in this machine's time zone, to the minute; empty where there is none."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M")


def short_model(name: str) -> str:
    """A model's name without its folder or owner."""
    return name.rstrip("/").rpartition("/")[2]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, shrink: str, empty: str) -> None:
    """Print ``rows``; where they are too wide, the column ``shrink`` wraps."""
    from rich.text import Text

    from autokv.cli import console

    if not rows:
        typer.echo(empty)
        return
    table = console.new_table()
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        width = None if name == shrink else max(map(len, (name, *cells)))
        table.add_column(name, width=width, overflow="fold")
    for row in rows:
        table.add_row(*(Text(console.plain(cell)) for cell in row))
    console.print_table(console.output(), table)


def print_facts(facts: Mapping[str, str | None]) -> None:
    """Print names and values, a line each; what has no value is left out."""
    from rich.table import Table
    from rich.text import Text

    from autokv.cli.console import output, plain

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(Text(name, style="bold"), Text(plain(value)))
    output().print(table)
