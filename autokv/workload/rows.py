"""Parquet files of other tools: read as the JSON lines that their rows are, so that all readers of those read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from autokv.errors import WorkloadError
from autokv.files import check_regular
from autokv.workload.source import CHUNK_BYTES, HEAD_BYTES, MAX_TRACE_BYTES, Source

BATCH_ROWS = 4096


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
        """The rows in pieces of at least ``size`` bytes.

        Raises:
            WorkloadError: the file is damaged, or too much.
        """
        lines: list[str] = []
        waiting = total = 0
        for line in self._lines():
            lines.append(line)
            waiting += len(line)
            if waiting >= size:
                total += waiting
                self._check_size(total)
                yield "".join(lines).encode()
                lines, waiting = [], 0
        if lines:
            yield "".join(lines).encode()

    def _lines(self) -> Iterator[str]:
        try:
            with pa.parquet.ParquetFile(self.path, memory_map=False, pre_buffer=False) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    for row in _plain(batch).to_pylist():
                        yield json.dumps(row, default=str) + "\n"
        except (pa.ArrowException, OSError, OverflowError, UnicodeError) as error:
            raise WorkloadError(
                f"cannot be read as Parquet ({str(error)[:120]})", field=str(self.path), remedy="fetch it again"
            ) from None


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
