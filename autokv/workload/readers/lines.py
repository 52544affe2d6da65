"""Formats of one request a line: parsed a block at a time, and line by line only around bad rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns, Ints, Row, check_columns, checked, concatenate, from_rows
from autokv.workload.readers.reader import BadRows
from autokv.workload.source import Source

SMALL_BYTES = 4096
"""A part with a bad row is halved until it is this small, then read line by line: that takes as long as a few calls."""


class RowParser(Protocol):
    """The rows of one file: ``row`` says what a line is, ``block`` is the same and fast where no line is bad."""

    def block(self, data: bytes) -> Columns:
        """Parse whole lines; the columns' ``lines`` are not looked at.

        Raises:
            ValueError: some line might be bad; no more detail is asked of it.
        """

    def row(self, line: str) -> Row:
        """Parse one line.

        Raises:
            ValueError: with the reason why it is no request.
        """


def read_lines(source: Source, parser: RowParser, bad: BadRows, *, header: bool) -> Columns:
    """All lines of a file behind its header.

    Raises:
        WorkloadError: its last line is no row and has no end, so that the file is probably cut off; or reading failed.
    """
    parts: list[Columns] = []
    line, ended = 1, True
    for block in source.blocks():
        data, first = block, line
        if header and block.strip():
            start = len(block) - len(block.lstrip())
            end = block.find(b"\n", start) + 1 or len(block)
            data, first, header = block[end:], line + block.count(b"\n", 0, end), False
        parts.extend(_parse(parser, data, first, bad))
        line += block.count(b"\n")
        ended = block.endswith(b"\n")
    if bad.cut_line == line and not ended:
        raise WorkloadError(
            f"is cut off in its last row ({bad.cut_reason})",
            field=f"{source.path}:{line}",
            remedy="fetch the file again, or delete that line",
        )
    return concatenate(parts)


def _parse(parser: RowParser, data: bytes, first: int, bad: BadRows) -> Iterator[Columns]:
    """The rows of ``data``, whose first line has the number ``first``."""
    if not data.strip():
        return
    try:
        columns = parser.block(data)
        check_columns(columns)
        yield replace(columns, lines=_numbers(data, first, len(columns)))
    except ValueError:
        middle = data.find(b"\n", len(data) // 2) + 1
        if len(data) > SMALL_BYTES and 0 < middle < len(data):
            yield from _parse(parser, data[:middle], first, bad)
            yield from _parse(parser, data[middle:], first + data.count(b"\n", 0, middle), bad)
        else:
            yield _by_line(parser, data, first, bad)


def _numbers(data: bytes, first: int, rows: int) -> Ints:
    """The numbers of the lines that are not blank, one a row."""
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if rows == lines:
        return np.arange(first, first + rows, dtype=np.int64)
    numbers = [number for number, line in enumerate(data.split(b"\n"), start=first) if line.strip()]
    if rows != len(numbers):
        raise ValueError("rows are not lines")
    return np.array(numbers, dtype=np.int64)


def _by_line(parser: RowParser, data: bytes, first: int, bad: BadRows) -> Columns:
    rows: list[Row] = []
    numbers: list[int] = []
    for number, line in enumerate(data.split(b"\n"), start=first):
        if not line.strip():
            continue
        text = line.decode(errors="replace").strip()
        try:
            row = parser.row(text)
        except ValueError as error:
            bad.add(number, str(error), cut=not text.endswith("}"))
            continue
        try:
            rows.append(checked(row))
            numbers.append(number)
        except ValueError as error:
            bad.add(number, str(error))
    return from_rows(rows, numbers)
