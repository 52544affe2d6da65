"""Columns of Arrow as columns of numpy, strictly: what is not what it should be is a ``ValueError``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute

from autokv.workload.readers.columns import MAX_TOKENS, NONE, Ints, number_of


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


def integers(column: pa.ChunkedArray, default: int = 0) -> Ints:
    """An int64 column; null becomes ``default``."""
    result: Ints = pa.compute.fill_null(column, default).to_numpy()
    return result


def session_numbers(column: pa.ChunkedArray) -> Ints:
    """A number for each text of a column, :data:`NONE` where there is none."""
    trimmed = pa.compute.utf8_trim_whitespace(pa.compute.fill_null(column.combine_chunks(), ""))
    coded = pa.compute.dictionary_encode(trimmed)
    numbers = np.array([session_number(text) for text in coded.dictionary.to_pylist()], dtype=np.int64)
    result: Ints = numbers[coded.indices.to_numpy()]
    return result


def session_number(text: str) -> int:
    """The number of a session that is named in text, :data:`NONE` for no name."""
    text = text.strip()
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
