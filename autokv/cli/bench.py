"""``autokv bench``: how fast this device's kernels are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli.tables import DeviceOption
from autokv.errors import RequestError

if TYPE_CHECKING:
    from autokv.evaluation.kernel_table import KernelFigures, Point

app = typer.Typer(no_args_is_help=True)

DEFAULTS = {"cpu": ((1,), (1024, 8192)), "cuda": ((1, 8, 32), (4096, 16384, 65536))}
"""Batches and contexts by kind of device: about a minute on two cores, a few on a GPU."""


@app.command()
def kernels(
    device: DeviceOption = "auto",
    shape: Annotated[str, typer.Option(help="Models whose shapes are timed, separated by commas, or all.")] = "all",
    batch: Annotated[str | None, typer.Option(help="Batch sizes, separated by commas.")] = None,
    context: Annotated[str | None, typer.Option(help="Context lengths in tokens, separated by commas.")] = None,
    formats: Annotated[str | None, typer.Option(help="Cache formats, separated by commas, or all.")] = None,
    output: Annotated[Path, typer.Option(help="File for the results, in JSON.")] = Path("autokv-kernels.json"),
) -> None:
    """Time decode attention over every cache format.

    Each is compared with 16 bits, fp8 and memory bandwidth.
    """
    from autokv.evaluation.kernel_shapes import BASIC, FORMATS, SHAPES

    shapes = _names(shape, SHAPES, "--shape", tuple(SHAPES))
    forms = _names(formats, FORMATS, "--formats", BASIC)
    asked = [
        None if given is None else _counts(given, name) for given, name in ((batch, "batch"), (context, "context"))
    ]

    from autokv import settings
    from autokv.cli.console import output as console
    from autokv.evaluation.costs.timing import versions
    from autokv.evaluation.kernel_table import KernelTable, Point
    from autokv.files import write_atomic
    from autokv.hardware import probe
    from autokv.kernels import backend
    from autokv.models.placement import choose_device

    place = choose_device(device)
    chosen = backend(place, settings.current().kernels)
    profile = probe(place)
    batches, contexts = (given or usual for given, usual in zip(asked, DEFAULTS[place.type], strict=True))
    copy = profile.copy_gb_per_s
    screen = console()
    screen.print(
        f"{profile.name}, kernels {chosen.name}, a copy moves {copy.median:.1f} GB/s (± {copy.spread:.1f})",
        markup=False,
    )
    table = KernelTable(chosen, place, copy.median)
    points = [Point(name, count, tokens) for name in shapes for count in batches for tokens in contexts]
    rows: list[KernelFigures] = []
    for point in points:
        measured = table.measure(point, forms)
        rows += measured
        _show(point, measured)
    document = {
        "benchmark": "kernels",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": profile.to_dict(),
        "backend": chosen.name,
        "versions": versions(),
        "rows": [row.to_dict() for row in rows],
    }
    write_atomic(output, json.dumps(document, indent=1, allow_nan=False) + "\n")
    screen.print(f"written to {output}", markup=False, soft_wrap=True)


def _show(point: Point, rows: Sequence[KernelFigures]) -> None:
    """A table of one point; what has no figures says why below it."""
    from autokv.cli.console import new_table, print_table
    from autokv.cli.console import output as console
    from autokv.report.format import MISSING, number

    screen = console()
    screen.print(f"\n{point.shape}, batch {point.batch}, context {point.context:,}", style="bold", markup=False)
    table = new_table("cache", "µs", "p95", "GB/s", "of a copy", "× 16-bit", "× fp8", "error")
    for row in rows:
        if row.us is None:
            continue
        table.add_row(
            row.format if row.kernel == rows[-1].kernel else f"pytorch {row.kernel}",
            number(row.us["p50"]),
            number(row.us["p95"]),
            number(row.gb_per_s),
            MISSING if row.copy_share is None else f"{row.copy_share:.0%}",
            number(row.faster_than_16bit),
            number(row.faster_than_fp8),
            MISSING if row.error is None else f"{row.error:.1e}",
        )
    print_table(screen, table)
    for row in rows:
        if row.us is None:
            screen.print(f"{row.format} was not timed: {row.reason}", markup=False)


def _names(given: str | None, known: Mapping[str, object], option: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    """Names between commas; without any the usual ones, for ``all`` all that are known."""
    if given is None:
        return usual
    if given == "all":
        return tuple(known)
    names = tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"{unknown[0]!r} is unknown" if unknown else "names nothing"
        raise RequestError(what, field=option, remedy=f"use {', '.join(known)} or all")
    return names


def _counts(given: str, name: str) -> tuple[int, ...]:
    """Positive whole numbers between commas."""
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) for part in parts):
        raise RequestError(f"{given!r} is not a list of numbers from 1", field=f"--{name}", remedy="such as 1,8,32")
    return tuple(dict.fromkeys(map(int, parts)))
