"""``read_trace``: from a file to a :class:`WorkloadTrace`, sorted by arrival, or to one line that says why not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from autokv.errors import WorkloadError
from autokv.workload.parquet import MAGIC, ParquetRows, is_own, read_parquet
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
from autokv.workload.readers.columns import NONE, Columns, Ints, counted
from autokv.workload.readers.mapped import proposal
from autokv.workload.readers.reader import command
from autokv.workload.source import Source
from autokv.workload.trace import PrefixBlocks, RejectedRows, WorkloadTrace
from autokv.workload.units import mixed_units, perhaps_seconds, unit_notes

LONGBENCH = frozenset({"context", "input"})
"""Keys of a benchmark's prompts."""
OWN = {
    "pipeline": ("a configuration", "autokv evaluate --model MODEL --config"),
    "stages": ("a search space", "autokv tune --model MODEL --space"),
}
"""AutoKV's own documents by the key that tells them: what each is, and what reads it."""
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
    return _assembled(_name(source.path), reader.name, found, bad.summary())


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
    for key in OWN.keys() & (opening.keys or opening.yaml_keys):
        what, read = OWN[key]
        raise WorkloadError(
            f"is {what}, not a trace",
            field=str(source.path),
            remedy=f"it is read by `{read} {shlex.quote(str(source.path))}`",
        )
    raise WorkloadError(
        f"unrecognized trace format ({opening.first_line[:40]!r})",
        field=f"{source.path}:{opening.first_line_number}",
        remedy=f"say which columns hold the numbers of tokens: {proposal(source.path, opening)}",
    )


def _name(path: Path) -> str:
    """The file's name without the suffixes of a format and a compression."""
    name = path.with_suffix("") if path.suffix in {".gz", ".zst", ".zstd"} else path
    return name.stem


def _assembled(name: str, form: str, columns: Columns, rejected: RejectedRows) -> WorkloadTrace:
    """The trace of at least one request. What was done to the rows, or looks wrong with them, is in its notes."""
    order = np.argsort(columns.arrival_ns, kind="stable")
    arrival = columns.arrival_ns[order]
    session = None if columns.session is None else _conversations(columns.session, columns.parent)[order]
    notes = [*columns.notes, *_disorder(columns), *unit_notes(columns)]
    delay = columns.delay_ns
    delay_s = None if delay is None else np.where(delay == NONE, np.nan, delay / 1e9)[order]
    prefixes = None
    if columns.hashes is not None and columns.hash_counts is not None and columns.block_tokens is not None:
        prefixes, trimmed = _prefixes(columns, columns.hash_counts, columns.hashes, columns.block_tokens)
        prefixes = prefixes.take(order)
        if trimmed:
            notes.append(
                f"hashes left out: {counted(trimmed, 'prompt')} with more of them than blocks of "
                f"{columns.block_tokens} tokens"
            )
    return WorkloadTrace(
        name=name,
        format=form,
        arrival_s=(arrival - arrival[0]) / 1e9,
        input_tokens=columns.input_tokens[order],
        output_tokens=columns.output_tokens[order],
        rejected=rejected,
        prefixes=prefixes,
        session=session,
        delay_s=delay_s,
        turn=None if session is None else _turns(session, None if columns.turn is None else columns.turn[order]),
        notes=tuple(notes),
        lines=columns.lines[order],
    )


def _disorder(columns: Columns) -> Iterator[str]:
    """A sentence, if arrivals do not ascend."""
    behind = np.flatnonzero(columns.arrival_ns < np.maximum.accumulate(columns.arrival_ns))
    # Sessions that have clocks of their own lie one behind the other.
    if len(behind) and not columns.own_clocks:
        yield (
            f"sorted by arrival: {counted(len(behind), 'row')} out of order, the first in line "
            f"{columns.lines[behind[0]]}"
        )


def _prefixes(columns: Columns, counts: Ints, hashes: Ints, block_tokens: int) -> tuple[PrefixBlocks, int]:
    """The blocks, and how many prompts had more of them than their tokens fill."""
    most = -(-columns.input_tokens // block_tokens)
    trimmed = int((counts > most).sum())
    offsets = np.concatenate([[0], np.cumsum(counts)])
    if trimmed:
        place = np.arange(len(hashes)) - np.repeat(offsets[:-1], counts)
        hashes = hashes[place < np.repeat(most, counts)]
        offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, most))])
    return PrefixBlocks(block_tokens, offsets, hashes), trimmed


def _conversations(numbers: Ints, parents: Ints | None) -> Ints:
    """A number from 0 for each conversation.

    Without ``parents``, requests with one number are one conversation; with them, a request belongs to that of its
    parent, and requests whose parent is not there belong together. A request without a number is one of its own.
    """
    if parents is None:
        keys = numbers
    else:
        names, first = np.unique(numbers, return_index=True)
        place = np.searchsorted(names, parents).clip(max=len(names) - 1)
        has_parent = (parents != NONE) & (names[place] == parents)
        above = np.where(has_parent, first[place], np.arange(len(numbers)))
        # Twice as far up each time; a circle of parents, which only damage makes, ends somewhere in itself.
        for _ in range(len(numbers).bit_length()):
            above = above[above]
        keys = np.where(parents[above] != NONE, parents[above], numbers[above])
    found, result = np.unique(keys, return_inverse=True)
    alone = np.flatnonzero(keys == NONE)
    result[alone] = len(found) + np.arange(len(alone))
    return np.unique(result, return_inverse=True)[1].astype(np.int64)


def _turns(session: Ints, stated: Ints | None) -> Ints:
    """What the file states of every request, else the order of a conversation's requests in time."""
    if stated is not None and stated.all():
        return stated
    order = np.argsort(session, kind="stable")
    ordered = session[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    turns = np.empty(len(session), dtype=np.int64)
    turns[order] = np.arange(len(session)) - np.repeat(starts, np.diff(starts, append=len(session))) + 1
    return turns
