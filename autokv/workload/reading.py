"""``read_trace``: from a file to a :class:`WorkloadTrace`, or to one line that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from autokv.errors import WorkloadError
from autokv.workload.assembly import assemble
from autokv.workload.parquet import MAGIC, read_parquet
from autokv.workload.readers import MAPPED, READERS, BadRows, Opening, Reader, ReadOptions, TimeUnit, Tokenizer
from autokv.workload.source import Source
from autokv.workload.trace import WorkloadTrace
from autokv.workload.units import mixed_units

MAX_REJECTED_SHARE = 0.01
"""A file with a larger share of bad rows is refused."""


def read_trace(
    path: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    columns: Mapping[str, str] | None = None,
    time_unit: TimeUnit | None = None,
    max_rejected_share: float = MAX_REJECTED_SHARE,
) -> WorkloadTrace:
    """Read a trace: any format of :data:`autokv.workload.readers.READERS`, plain, gzip or zstd, or the own Parquet.

    The format is told by the content, whatever the file's name. Rows are sorted by arrival. Bad rows are left out and
    counted in ``rejected``; what else reading changed or found strange is in ``notes``.

    Args:
        path: the file.
        tokenizer: counts the tokens of formats that hold texts (ShareGPT).
        columns: for a CSV or JSON lines of no known format: ``input_tokens``, ``output_tokens`` and where there are any
            ``arrival`` and ``session`` to the names of their columns.
        time_unit: of the timestamps (``s``, ``ms``, ``us``, ``ns``; ``iso``: dates), where it is not the format's own.
        max_rejected_share: the share of bad rows above which the file is refused.

    Raises:
        WorkloadError: the file is missing, too large, empty, binary, of no known format, without a request, compressed
            and damaged or suspicious, cut off, or has too many bad rows. The message names the line.
    """
    if not 0 <= max_rejected_share <= 1:
        raise WorkloadError(f"is {max_rejected_share}", field="max_rejected_share", remedy="give a share from 0 to 1")
    source = Source(Path(path))
    if source.head.startswith(MAGIC):
        return read_parquet(source.path)
    options = ReadOptions(tokenizer, columns or {}, time_unit)
    try:
        reader = _reader(source, options)
        bad = BadRows(str(path))
        found = reader.read(source, options, bad)
    except UnicodeDecodeError:
        raise source.binary() from None
    except pa.ArrowException as error:
        raise WorkloadError(f"cannot be parsed ({error})", field=str(path), remedy="repair the file") from None
    total = len(found) + bad.count
    if bad.count > max_rejected_share * total:
        raise WorkloadError(
            f"{bad.count} of {total} rows are bad, the first because of: {bad.reason}",
            field=f"{path}:{bad.lines[0]}",
            remedy=f"repair or remove them (at most {100 * max_rejected_share:.4g}% are left out)",
        )
    if not len(found):
        raise WorkloadError("has no requests", field=str(path), remedy="name a trace with requests")
    mixed = mixed_units(found)
    if mixed is not None:
        line, wrong = mixed
        raise WorkloadError(
            f"{wrong}: the file mixes units", field=f"{path}:{line}", remedy="bring all of them to one unit"
        )
    return assemble(_name(source.path), reader.name, found, bad.summary())


def _reader(source: Source, options: ReadOptions) -> Reader:
    """The one that knows the format."""
    if options.columns:
        return MAPPED
    opening = Opening(source.head)
    for reader in READERS.values():
        if reader.recognizes(opening):
            return reader
    raise WorkloadError(
        f"{opening.first_line[:60]!r} opens no trace format that is known",
        field=f"{source.path}:{opening.first_line_number}",
        remedy=f"give {' or '.join(reader.expects for reader in READERS.values())}, or name its columns (columns)",
    )


def _name(path: Path) -> str:
    """The file's name without the suffixes of a format and a compression."""
    name = path.with_suffix("") if path.suffix in {".gz", ".zst", ".zstd"} else path
    return name.stem
