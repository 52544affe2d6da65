"""Writing traces: the canonical Parquet, and the formats that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from autokv.errors import WorkloadError
from autokv.files import replacing
from autokv.workload.parquet import write_parquet
from autokv.workload.trace import WorkloadTrace

Writer = Callable[[WorkloadTrace, str | Path], None]
START = np.datetime64("2000-01-01T00:00:00", "us")
MOONCAKE_BLOCK = 512
"""Tokens of a block of Mooncake's ``hash_ids``."""


def write_trace(trace: WorkloadTrace, path: str | Path, as_format: str | None = None) -> tuple[str, ...]:
    """Write ``trace`` in the format ``as_format`` (a key of :data:`WRITERS`), or as the file's suffix says.

    The file is there whole or not at all; one that was there before is replaced.

    Returns:
        What the format cannot hold, and is left out.

    Raises:
        WorkloadError: there is no such format, or the file cannot be written.
    """
    path = Path(path)
    chosen = SUFFIXES.get(path.suffix.lower(), "") if as_format is None else as_format
    if chosen not in WRITERS:
        wrong = f"the file type {path.suffix!r}" if as_format is None else f"the format {as_format!r}"
        known = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
        raise WorkloadError(f"cannot write {wrong}", field=str(path), remedy=f"choose from {known}")
    with replacing(path, WorkloadError) as temporary:
        WRITERS[chosen](trace, temporary)
    return tuple(_left_out(trace, chosen))


def write_azure_csv(trace: WorkloadTrace, path: str | Path) -> None:
    """Write a trace in the Azure CSV format; arrivals count from the year 2000 and are rounded to microseconds."""
    whole = np.floor(trace.arrival_s)
    microseconds = np.rint((trace.arrival_s - whole) * 1e6).astype(np.int64) + whole.astype(np.int64) * 10**6
    moments = np.datetime_as_string(START + microseconds.astype("timedelta64[us]"))
    rows = zip(moments.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        file.writelines(f"{moment.replace('T', ' ')}0,{inputs},{outputs}\n" for moment, inputs, outputs in rows)


def write_mooncake_jsonl(trace: WorkloadTrace, path: str | Path) -> None:
    """Write a trace in the Mooncake JSON lines format, with ``hash_ids`` where its blocks have 512 tokens.

    Timestamps are milliseconds, rounded to microseconds and without a fraction where there is none.
    """
    milliseconds = np.round(trace.arrival_s * 1e3, 3).tolist()
    columns = zip(milliseconds, trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    prefixes = trace.prefixes if _holds_prefixes(trace) else None
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for request, (moment, inputs, outputs) in enumerate(columns):
            time = int(moment) if moment.is_integer() else moment
            hashes = "" if prefixes is None else f', "hash_ids": {prefixes.of(request).tolist()}'
            file.write(f'{{"timestamp": {time}, "input_length": {inputs}, "output_length": {outputs}{hashes}}}\n')


def _holds_prefixes(trace: WorkloadTrace) -> bool:
    return trace.prefixes is not None and trace.prefixes.block_tokens == MOONCAKE_BLOCK


WRITERS: Mapping[str, Writer] = {
    "parquet": write_parquet,
    "azure": write_azure_csv,
    "mooncake": write_mooncake_jsonl,
}
"""Format to what writes it."""
SUFFIXES = {".parquet": "parquet", ".csv": "azure", ".jsonl": "mooncake"}


def _left_out(trace: WorkloadTrace, written: str) -> Iterator[str]:
    if written == "parquet":
        return
    if trace.session is not None:
        yield "sessions and turns"
    if trace.prefixes is not None and (written == "azure" or not _holds_prefixes(trace)):
        yield f"hashes of blocks of {trace.prefixes.block_tokens} tokens"
