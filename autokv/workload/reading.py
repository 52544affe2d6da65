"""``read_trace``: from a file to a :class:`WorkloadTrace`, or to one line that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from autokv.errors import WorkloadError
from autokv.workload.assembly import assemble
from autokv.workload.parquet import MAGIC, is_own, read_parquet
from autokv.workload.readers import (
    MAPPED,
    READERS,
    BadRows,
    Opening,
    Reader,
    ReadOptions,
    TimeUnit,
    Tokenizer,
    installed_readers,
)
from autokv.workload.readers.chats import only_prompts
from autokv.workload.readers.columns import Columns, counted
from autokv.workload.readers.mapped import date_options, first_row, proposal
from autokv.workload.readers.remedies import column_options, command, own_document
from autokv.workload.rows import ParquetRows
from autokv.workload.source import Source
from autokv.workload.trace import WorkloadTrace
from autokv.workload.units import mixed_units, perhaps_seconds

LONGBENCH = frozenset({"context", "input"})
"""Keys of a benchmark's prompts."""
MAX_REJECTED_SHARE = 0.01
"""A file with a larger share of bad rows is refused."""


def read_trace(
    path: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    columns: Mapping[str, str] | None = None,
    time_unit: TimeUnit | None = None,
    hash_block_size: int | None = None,
    max_rejected_share: float = MAX_REJECTED_SHARE,
) -> WorkloadTrace:
    """Read a trace: any format of :data:`autokv.workload.readers.READERS`, plain, gzip, zstd or as Parquet.

    The format is told by the content, whatever the file's name. Rows are sorted by arrival. Bad rows are left out and
    counted in ``rejected``; requests without output tokens, calls that failed, are left out too, and what else reading
    changed or found strange is in ``notes``.

    Args:
        path: the file.
        tokenizer: counts the tokens of formats that hold texts (conversations, prompts).
        columns: for a table of no known format: ``input_tokens``, ``output_tokens`` and where there are any
            ``arrival`` and ``session`` to the names of their columns, in JSON also to paths (``usage.prompt_tokens``).
        time_unit: of the timestamps (``s``, ``ms``, ``us``, ``ns``; dates: ``iso``, ``mdy``, ``dmy``), where it is not
            the format's own.
        hash_block_size: tokens of a hashed block of a prompt, where the lengths do not tell it.
        max_rejected_share: the share of bad rows above which the file is refused.

    Raises:
        WorkloadError: the file is missing, too large, empty, binary, of no known format, without a request, compressed
            and damaged or suspicious, cut off, or has too many bad rows. The message names the line, and where there is
            one the command that reads the file.
        PluginError: a reader of another distribution cannot be used.
    """
    if not 0 <= max_rejected_share <= 1:
        raise WorkloadError(f"is {max_rejected_share}", field="max_rejected_share", remedy="give a share from 0 to 1")
    if hash_block_size is not None and hash_block_size < 1:
        raise WorkloadError(f"is {hash_block_size}", field="hash_block_size", remedy="give a number of tokens")
    source = Source(Path(path))
    if source.head.startswith(MAGIC):
        if is_own(source.path):
            return read_parquet(source.path)
        source = ParquetRows(source.path)
    options = ReadOptions(tokenizer, columns or {}, time_unit, hash_block_size)
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
    found = _answered(found)
    if not len(found):
        raise WorkloadError("has no requests", field=str(path), remedy="name a trace with requests")
    mixed = mixed_units(found)
    if mixed is not None:
        line, wrong = mixed
        raise WorkloadError(
            f"{wrong}: the file mixes units", field=f"{path}:{line}", remedy="bring all of them to one unit"
        )
    rate = None if time_unit else perhaps_seconds(found)
    if rate is not None:
        raise WorkloadError(
            f"{rate:,.0f} requests arrive per second if the timestamps are in ms, {rate / 1000:.3g} if they are in s",
            field=str(path),
            remedy=f"say which it is: {command(source.path, '--time-unit', 's')}",
        )
    return assemble(_name(source.path), reader.name, found, bad.summary())


def _answered(columns: Columns) -> Columns:
    """Those that have output tokens."""
    answered = columns.output_tokens > 0
    failed = len(columns) - int(answered.sum())
    if not failed:
        return columns
    note = f"left out: {counted(failed, 'call')} that failed, without output tokens"
    return replace(columns.where(answered), notes=(*columns.notes, note))


def _reader(source: Source, options: ReadOptions) -> Reader:
    """The one that knows the format."""
    if options.columns:
        return MAPPED
    opening = Opening(source.head)
    for reader in (*installed_readers().values(), *READERS.values()):
        if reader.recognizes(opening):
            return reader
    if opening.keys >= LONGBENCH:
        raise only_prompts(source)
    own = own_document(source.path, opening.keys or opening.yaml_keys)
    if own is not None:
        raise own
    guessed = proposal(opening)
    named = guessed or {"input_tokens": "NAME", "output_tokens": "NAME"}
    asked = [*column_options(named), *date_options(first_row(opening), named)]
    raise WorkloadError(
        f"unrecognized trace format ({opening.first_line[:40]!r})",
        field=f"{source.path}:{opening.first_line_number}",
        remedy=f"say which columns hold the numbers of tokens: {command(source.path, *asked)}",
    )


def _name(path: Path) -> str:
    """The file's name without the suffixes of a format and a compression."""
    name = path.with_suffix("") if path.suffix in {".gz", ".zst", ".zstd"} else path
    return name.stem
