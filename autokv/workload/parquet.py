"""Parquet: the project's own form of a trace, and files of other tools, which all readers of JSON lines read.

The project's own holds all of a trace. Its columns are ``arrival_s`` (float64), ``input_tokens``, ``output_tokens``,
and where the trace has them ``session``, ``turn``, ``line`` (int64), ``delay_s`` (float64, NaN where it is not known)
and ``hash_ids`` (lists of int64). The schema's metadata under ``autokv`` is a JSON object: ``schema``
(``autokv.trace/v1``), ``name``, ``format``, ``block_tokens``, ``rejected``, ``notes``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from autokv.errors import WorkloadError
from autokv.files import check_regular
from autokv.workload.readers.columns import MAX_ARRIVAL_NS, MAX_TOKENS
from autokv.workload.source import CHUNK_BYTES, HEAD_BYTES, MAX_TRACE_BYTES, Source
from autokv.workload.trace import PrefixBlocks, RejectedRows, WorkloadTrace

MAGIC = b"PAR1"
SCHEMA = "autokv.trace/v1"
KEY = b"autokv"
REQUIRED = {"arrival_s": pa.float64(), "input_tokens": pa.int64(), "output_tokens": pa.int64()}
OPTIONAL = {
    "session": pa.int64(),
    "turn": pa.int64(),
    "delay_s": pa.float64(),
    "line": pa.int64(),
    "hash_ids": pa.list_(pa.int64()),
}
MAX_NAME = 200
BATCH_ROWS = 4096


def write_parquet(trace: WorkloadTrace, path: str | Path) -> None:
    """Write the whole trace; :func:`read_parquet` gives it back."""
    columns = {name: getattr(trace, name) for name in (*REQUIRED, "session", "turn", "delay_s")} | {"line": trace.lines}
    arrays = {name: pa.array(column) for name, column in columns.items() if column is not None}
    if trace.prefixes is not None:
        offsets = pa.array(trace.prefixes.offsets)
        arrays["hash_ids"] = pa.LargeListArray.from_arrays(offsets, pa.array(trace.prefixes.hashes))
    document = {
        "schema": SCHEMA,
        "name": trace.name,
        "format": trace.format,
        "block_tokens": None if trace.prefixes is None else trace.prefixes.block_tokens,
        "rejected": asdict(trace.rejected),
        "notes": list(trace.notes),
    }
    table = pa.table(arrays).replace_schema_metadata({KEY: json.dumps(document).encode()})
    pa.parquet.write_table(table, path, compression="zstd")


def is_own(path: Path) -> bool:
    """Whether the file says that :func:`write_parquet` wrote it; what cannot be read says nothing."""
    try:
        metadata = pa.parquet.read_schema(path, memory_map=False).metadata
    except (pa.ArrowException, OSError, OverflowError, UnicodeError):
        return False
    return KEY in (metadata or {})


def read_parquet(path: Path) -> WorkloadTrace:
    """The trace that :func:`write_parquet` wrote.

    Raises:
        WorkloadError: it is no such file, damaged, too large, or a request makes no sense.
    """
    where = str(path)
    with _opened(path, "write it again") as file:
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
        if size > MAX_TRACE_BYTES:
            raise WorkloadError(
                f"has {size} bytes, more than the limit of {MAX_TRACE_BYTES} for a trace",
                field=where,
                remedy="use a part of it",
            )
        document = _document(file.schema_arrow, where)
        table = file.read(columns=[*REQUIRED, *(name for name in OPTIONAL if name in file.schema_arrow.names)])
    return _trace(table, document, where)


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[pa.parquet.ParquetFile]:
    """The file; what fails while it is read becomes one line."""
    try:
        with pa.parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, OverflowError, UnicodeError) as error:
        raise WorkloadError(f"cannot be read as Parquet ({str(error)[:120]})", field=str(path), remedy=remedy) from None


def _document(schema: pa.Schema, where: str) -> dict[str, Any]:
    """The metadata, after a look at the columns."""
    remedy = "make one with `autokv trace convert FILE OUT.parquet`"
    try:
        document = json.loads((schema.metadata or {})[KEY])
        version = document["schema"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise WorkloadError("is a Parquet file, but no trace of AutoKV", field=where, remedy=remedy) from None
    if version != SCHEMA:
        raise WorkloadError(f"has the schema {str(version)[:40]!r}, not {SCHEMA!r}", field=where, remedy=remedy)
    for name, kind in {**REQUIRED, **OPTIONAL}.items():
        found = schema.field(name).type if schema.names.count(name) == 1 else None
        if found is None and name in REQUIRED:
            raise WorkloadError(f"has no column {name}", field=where, remedy=remedy)
        lists = name == "hash_ids" and found == pa.large_list(pa.int64())
        if found is not None and found != kind and not lists:
            raise WorkloadError(f"column {name} is {found}, not {kind}", field=where, remedy=remedy)
    result: dict[str, Any] = document
    return result


def _trace(table: pa.Table, document: dict[str, Any], where: str) -> WorkloadTrace:
    if not len(table):
        raise WorkloadError("has no requests", field=where, remedy="name a trace with requests")
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    for name, column in columns.items():
        if column.null_count:
            raise WorkloadError(f"column {name} has missing values", field=where, remedy="write it again")
    plain = {name: column.to_numpy().copy() for name, column in columns.items() if name != "hash_ids"}
    _check(plain, where)
    lines = plain.pop("line", None)
    try:
        rejected = document["rejected"]
        return WorkloadTrace(
            name=str(document["name"])[:MAX_NAME],
            format=str(document["format"])[:MAX_NAME],
            rejected=RejectedRows(int(rejected["count"]), tuple(map(int, rejected["lines"])), str(rejected["reason"])),
            prefixes=_prefixes(columns, document, where),
            notes=tuple(map(str, document["notes"])),
            lines=lines,
            **plain,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WorkloadError(f"its metadata is damaged ({error})", field=where, remedy="write it again") from None


def _prefixes(columns: dict[str, Any], document: dict[str, Any], where: str) -> PrefixBlocks | None:
    if "hash_ids" not in columns:
        return None
    block_tokens = document["block_tokens"]
    if type(block_tokens) is not int or not 1 <= block_tokens <= MAX_TOKENS:
        raise ValueError("block_tokens")
    lists = columns["hash_ids"]
    hashes = lists.flatten()
    if hashes.null_count:
        raise WorkloadError("column hash_ids has missing values", field=where, remedy="write it again")
    counts = pc.list_value_length(lists).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return PrefixBlocks(block_tokens, offsets, hashes.to_numpy().copy())


def _check(columns: dict[str, Any], where: str) -> None:
    arrival = columns["arrival_s"]
    bad = ~(np.isfinite(arrival) & (arrival >= 0) & (arrival <= MAX_ARRIVAL_NS / 1e9))
    bad[1:] |= np.diff(arrival) < 0
    for name in ("input_tokens", "output_tokens"):
        bad |= (columns[name] < 1) | (columns[name] > MAX_TOKENS)
    if "turn" in columns:
        bad |= columns["turn"] < 1
    if "delay_s" in columns:
        bad |= (columns["delay_s"] < 0) | (columns["delay_s"] > MAX_ARRIVAL_NS / 1e9)
    if bad.any():
        raise WorkloadError(
            "the request makes no sense, or arrives before the one above it",
            field=f"{where}: row {int(bad.argmax()) + 1}",
            remedy="write the file again",
        )


class ParquetRows(Source):
    """One Parquet file as JSON lines; dates are text, a missing value is null, bytes are left out."""

    def __init__(self, path: Path) -> None:
        """Look at the first rows of ``path``.

        Raises:
            WorkloadError: it is too large, damaged, or has no rows.
        """
        self.path = path
        self.size = check_regular(path, limit=MAX_TRACE_BYTES, error=WorkloadError, what="trace")
        self.codec = None
        self.head = self._first(HEAD_BYTES)

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The rows, a batch at a time, whatever ``size``.

        Raises:
            WorkloadError: the file is damaged, or too much.
        """
        total = 0
        with _opened(self.path, "fetch it again") as file:
            for batch in file.iter_batches(BATCH_ROWS):
                rows = (json.dumps(row, default=str) + "\n" for row in _plain(batch).to_pylist())
                chunk = "".join(rows).encode()
                total += len(chunk)
                self._check_size(total)
                yield chunk


def _plain(batch: pa.RecordBatch) -> pa.Table:
    """The columns that JSON can hold: dates as text, NaN as null, no bytes."""
    columns: dict[str, pa.Array] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        column = column.cast(kind)
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind):
            column = column.cast(pa.string())
        elif pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        elif pa.types.is_floating(kind):
            column = pc.if_else(pc.is_finite(column), column, None)
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            continue
        columns.setdefault(field.name, column)
    return pa.table(columns)
