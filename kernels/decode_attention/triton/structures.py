"""What the kernel that reads the cache is given, and what its functions hand on.

Triton takes a tuple apart: what is a pointer or a number in it stays one, and names cost nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Query(NamedTuple):
    """The queries of all rows, ``[rows * group, ...]``."""

    states: Tensor
    """``[head_dim]``, as they came."""
    coordinates: Tensor
    """``[width]``, where the packed keys are."""
    low_rank: Tensor | None
    """float32 ``[rank]``: times the right factor of the keys' low-rank residual."""


class Held(NamedTuple):
    """The keys or the values of all rows, as :class:`autokv.kernels.Side` holds them."""

    codes: Tensor
    scale: Tensor | None
    minimum: Tensor | None
    groups: Tensor | None
    """Where each ragged row's groups of tokens start."""
    low_rank_left: Tensor | None
    residual_window: Tensor


class Ragged(NamedTuple):
    """What differs from row to row; None where it does not."""

    offsets: Tensor | None
    later: Tensor | None
    """Older tokens of later parts."""


class Partial(NamedTuple):
    """What the splits leave: ``[rows * group, slots, ...]``."""

    output: Tensor
    """``[width]``, of which older tokens fill the width and the rank of the values, a residual window ``head_dim``."""
    lse: Tensor


class Sizes(NamedTuple):
    """Numbers that change from step to step."""

    longest: int
    residual_tokens: int
    later: int
    """Tokens of later parts that are equally many in every row."""
    sliding_window: int
    chunk: int
    """Older tokens of a split."""
    older_splits: int
    window_chunk: int
    k_capacity: int
    """Tokens from row to row of the buffer that the residual window lies in."""
    v_capacity: int
    first_slot: int
    window_slot: int
    slots: int


class Shape(NamedTuple):
    """What is compiled in, besides the formats and the tile."""

    head_dim: int
    group: int
    partial_width: int
    ragged: bool
    softcap: bool
    sliding: bool
    has_older: bool
    has_window: bool
    interpreted: bool
    """float32 throughout, because the interpreter's bfloat16 is wrong."""


class Matrix(NamedTuple):
    """A matrix of every row: ``[rows, n, n']``."""

    entries: Tensor
    row_stride: int
    stride: int
    column_stride: int


class Space(NamedTuple):
    """What one side's packed coordinates are in, compiled in."""

    head_dim: int
    width: int = 0
    """Of the coordinates; 0 where nothing is to be taken out of them."""
    rank: int = 0
    """Of the low-rank residual."""
    rotated: bool = False
    latent: bool = False


class Program(NamedTuple):
    """What one program works on."""

    row: Any
    queries: Any
    """``[heads]``: places of its queries among those of all rows."""
    here: Any
    """``[heads]``: which of them exist."""
    slot: Any
    """``[heads]``: where each one's partial results go."""


class Row(NamedTuple):
    """Where one row of a side starts."""

    words: Any
    scale: Any
    minimum: Any
    low_rank_left: Any


class Tile(NamedTuple):
    """The tokens of one step."""

    tokens: Any
    """``[tokens]``: places within the row."""
    inside: Any
    """``[tokens]``: which of them the split has."""
    first: Any
    """The first place."""
