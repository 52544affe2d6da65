"""Columns of Arrow as columns of numpy, strictly: what is not what it should be is a ``ValueError``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute

from autokv.workload.readers.columns import MAX_TOKENS, NONE, Columns, Ints, number_of
from autokv.workload.readers.times import TimeUnit, all_nanoseconds, arrow_type


@dataclass(frozen=True)
class TableFields:
    """The names of the columns that are read of a table."""

    input_tokens: str
    output_tokens: str
    arrival: str | None = None
    session: str | None = None
    """A conversation's name, text; may be missing in a row."""

    def types(self, unit: TimeUnit) -> dict[str, pa.DataType]:
        """As what Arrow is to read each of them."""
        types = {self.input_tokens: pa.float64(), self.output_tokens: pa.float64()}
        if self.arrival is not None:
            types[self.arrival] = arrow_type(unit)
        if self.session is not None:
            types[self.session] = pa.string()
        return types

    def columns(self, table: Mapping[str, pa.ChunkedArray], unit: TimeUnit) -> Columns:
        """What Arrow has read of them, without the numbers of lines.

        Raises:
            ValueError: a value is not what it should be.
        """
        inputs = whole_numbers(table[self.input_tokens])
        return Columns(
            np.zeros_like(inputs) if self.arrival is None else all_nanoseconds(table[self.arrival], unit),
            inputs,
            whole_numbers(table[self.output_tokens]),
            lines=np.empty(0, np.int64),
            session=None if self.session is None else session_numbers(table[self.session]),
        )


def whole_numbers(column: pa.ChunkedArray) -> Ints:
    """A float64 column of numbers of tokens.

    Raises:
        ValueError: one is no whole number, or far out of range.
    """
    values = column.to_numpy()
    if not (np.abs(values) <= MAX_TOKENS).all():
        raise ValueError("not numbers of tokens")
    result: Ints = values.astype(np.int64)
    if not (result == values).all():
        raise ValueError("not whole numbers")
    return result


def integers(column: pa.ChunkedArray) -> Ints:
    """An int64 column; null becomes 0."""
    result: Ints = pa.compute.fill_null(column, 0).to_numpy()
    return result


def session_numbers(column: pa.ChunkedArray) -> Ints:
    """A number for each text of a column, :data:`NONE` where there is none."""
    trimmed = pa.compute.utf8_trim_whitespace(pa.compute.fill_null(column.combine_chunks(), ""))
    coded = pa.compute.dictionary_encode(trimmed)
    numbers = np.array([session_number(text) for text in coded.dictionary.to_pylist()], dtype=np.int64)
    result: Ints = numbers[coded.indices.to_numpy()]
    return result


def session_number(name: object) -> int:
    """The number of a session, :data:`NONE` for an empty name.

    Raises:
        ValueError: the name is neither a text nor a number.
    """
    if not isinstance(name, str | int):
        raise ValueError("the session is neither a text nor a number")  # noqa: TRY004 - a bad line is a ValueError
    text = str(name).strip()
    return number_of(text) if text else NONE


def ragged(column: pa.ChunkedArray) -> tuple[Ints, Ints] | tuple[None, None]:
    """(numbers of elements, the elements) of a column of lists of int64; a null has none. ``None`` if all have none.

    Raises:
        ValueError: an element is null.
    """
    lists = column.combine_chunks()
    counts: Ints = pa.compute.fill_null(pa.compute.list_value_length(lists), 0).to_numpy().astype(np.int64)
    values = lists.flatten()
    if values.null_count:
        raise ValueError("missing values in a list")
    elements: Ints = values.to_numpy()
    return (counts, elements) if len(elements) else (None, None)
