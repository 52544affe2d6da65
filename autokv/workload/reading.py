"""``read_trace``: from a file to a :class:`WorkloadTrace`, or to one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autokv.errors import WorkloadError
from autokv.workload.files import read_bytes
from autokv.workload.readers import READERS, Columns, Reader, Row
from autokv.workload.trace import RejectedRows, WorkloadTrace

MAX_TRACE_BYTES = 2 << 30
"""A larger trace is refused unread."""
MAX_REJECTED_SHARE = 0.01
"""A file with a larger share of bad rows is refused."""
NAMED_LINES = 5
"""Bad lines that are named."""


def read_trace(path: str | Path) -> WorkloadTrace:
    """Read a trace in any format of :data:`autokv.workload.readers.READERS`.

    The format is told by the first line, whatever the file's name. Rows are sorted by arrival. Up to 1% of the rows
    may be bad; they are left out and counted in ``rejected``.

    Raises:
        WorkloadError: the file is missing, too large, empty, binary, of no known format, without a request, cut off
            in its last row, or has more bad rows than that. The message names the line.
    """
    path = Path(path)
    data = read_bytes(path, limit=MAX_TRACE_BYTES, error=WorkloadError, what="trace")
    reader = _recognize(path, data)
    try:
        columns, rejected = reader.columns(data), RejectedRows()
    except ValueError:
        columns, rejected = _by_line(path, data, reader)
    if not len(columns.arrival_ns):
        raise WorkloadError("has a header but no requests", field=str(path), remedy="name a trace with requests")
    order = np.argsort(columns.arrival_ns, kind="stable")
    arrival = columns.arrival_ns[order]
    return WorkloadTrace(
        name=path.stem,
        format=reader.name,
        arrival_s=(arrival - arrival[0]) / 1e9,
        input_tokens=columns.input_tokens[order],
        output_tokens=columns.output_tokens[order],
        rejected=rejected,
    )


def _recognize(path: Path, data: bytes) -> Reader:
    number, first = _first_line(path, data)
    for reader in READERS.values():
        if reader.recognizes(first):
            return reader
    raise WorkloadError(
        f"{first[:60]!r} opens no trace format that is known",
        field=f"{path}:{number}",
        remedy="give " + " or ".join(reader.expects for reader in READERS.values()),
    )


def _first_line(path: Path, data: bytes) -> tuple[int, str]:
    """The first line that is not blank, with its number."""
    start = len(data) - len(data.lstrip())
    number = data.count(b"\n", 0, start) + 1
    try:
        return number, data[start:].split(b"\n", 1)[0].decode().strip()
    except UnicodeDecodeError:
        raise WorkloadError(
            "is binary", field=str(path), remedy="name a trace in plain text (decompress it first)"
        ) from None


def _by_line(path: Path, data: bytes, reader: Reader) -> tuple[Columns, RejectedRows]:
    """The slow way, for a file that has bad rows: it knows which."""
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    parse = reader.row_parser(lines[0][1].decode())
    rows: list[Row] = []
    bad: list[int] = []
    reason = ""
    for number, line in lines[reader.has_header :]:
        try:
            rows.append(parse(line.decode()))
        except ValueError as error:
            bad.append(number)
            reason = reason or ("not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error))
            last_error = str(error)
    if bad and bad[-1] == lines[-1][0] and not data.endswith(b"\n"):
        raise WorkloadError(
            f"is cut off in its last row ({last_error})",
            field=f"{path}:{bad[-1]}",
            remedy="fetch the file again, or delete that line",
        )
    total = len(rows) + len(bad)
    if len(bad) > MAX_REJECTED_SHARE * total:
        raise WorkloadError(
            f"{len(bad)} of {total} rows are bad, the first because of: {reason}",
            field=f"{path}:{bad[0]}",
            remedy=f"repair or remove them (at most {MAX_REJECTED_SHARE:.0%} are left out)",
        )
    columns = Columns(*np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy())
    return columns, RejectedRows(len(bad), tuple(bad[:NAMED_LINES]), reason)
