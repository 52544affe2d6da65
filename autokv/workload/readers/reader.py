"""What a trace reader offers, and the limits that every reader shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 10_000_000
"""A request with more input or output tokens than this is taken for damage."""
MAX_ARRIVAL_NS = 7_000_000_000 * 10**9
"""Arrivals lie between the epoch (1970) and this, late in 2191; int64 nanoseconds hold it."""


class Row(NamedTuple):
    """One request: arrival in nanoseconds from any fixed start, and tokens."""

    arrival_ns: int
    input_tokens: int
    output_tokens: int


class Columns(NamedTuple):
    """The rows of a whole file, each column int64 [requests]."""

    arrival_ns: NDArray[np.int64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


class Reader(Protocol):
    """A trace format. ``row_parser`` defines it; ``columns`` is the same, fast, for a file without a bad row."""

    name: str
    expects: str
    """How the format looks, for messages."""
    has_header: bool

    def recognizes(self, first_line: str) -> bool:
        """Whether a file that opens with this line has the format."""

    def row_parser(self, first_line: str) -> Callable[[str], Row]:
        """A parser of one line, which raises ``ValueError`` with the reason for a line that is not a request."""

    def columns(self, data: bytes) -> Columns:
        """Parse a whole file. Raises ``ValueError`` if any row might be bad; no more detail is asked of it."""


def checked(row: Row) -> Row:
    """The row, if its figures make sense.

    Raises:
        ValueError: saying which does not.
    """
    for name, tokens in (("input", row.input_tokens), ("output", row.output_tokens)):
        if not 1 <= tokens <= MAX_TOKENS:
            raise ValueError(f"{str(tokens)[:20]} {name} tokens are not between 1 and {MAX_TOKENS}")
    if not 0 <= row.arrival_ns <= MAX_ARRIVAL_NS:
        raise ValueError("the timestamp is out of range")
    return row


def checked_columns(columns: Columns) -> Columns:
    """The columns, if every row would pass :func:`checked`.

    Raises:
        ValueError: some row would not.
    """
    arrival, *tokens = columns
    if any(len(column) and not (column.min() >= 1 and column.max() <= MAX_TOKENS) for column in tokens):
        raise ValueError("token counts out of range")
    if len(arrival) and not (arrival.min() >= 0 and arrival.max() <= MAX_ARRIVAL_NS):
        raise ValueError("timestamps out of range")
    return columns
