"""What the kernel that reads the cache is given, and what its functions hand on.

Triton takes a tuple apart: what is a pointer or a number in it stays one, and names cost nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from autokv.kernels.operands import Float8, Integers, Side
from autokv.kernels.quantize_pack.packing import padded_width

_SHIFTS = {"int4": 2, "int3": 4, "int2": 4}
_LEAST_WORDS = 9
"""Fewer words than that in a plane leave half of a tensor core's operand empty: bytes are taken as words."""
_LEAST_RANGE = 32
"""Bytes of a range: two words times what a tensor core takes."""


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


class Format(NamedTuple):
    """How a side is held, compiled in: a kernel is kept under all of its fields. See :mod:`.codes` for the words."""

    name: str
    axis: str
    group_size: int
    width: int
    rank: int
    """Of the low-rank residual; 0 without one."""
    shifts: int
    """Codes in a byte, the low ones of 3 bit."""
    bytes: int
    """Bytes of a token that hold codes of its whole width (the low ones of 3 bit); elements of 16 bits."""
    each: int
    """Bytes in a word."""
    ranges: int
    """Parts of the words, in each of which a token's channels share their scale."""
    planes: int
    """Planes of a range."""
    words: int
    """Words of a plane."""
    stride: int
    """Words of a token."""
    scales: int
    """Scales of a group of tokens, or of a token that has its own."""

    @classmethod
    def of(cls, side: Side) -> Format:
        """The format of ``side``."""
        packed, residual = side.packed, side.low_rank_residual
        rank = 0 if residual is None else residual.left.shape[1]
        if isinstance(packed, Integers):
            return _format(f"int{packed.bits}", packed.axis, packed.group_size, packed.width, rank)
        if isinstance(packed, Float8):
            return _format("fp8", "row", 1, packed.codes.shape[1], rank)
        return _format("plain", "none", 1, packed.data.shape[1], rank)

    @property
    def step(self) -> int:
        """Splits start at multiples of it, so that a step of the loop lies within one group of tokens."""
        return self.group_size if self.axis == "channel" else 1

    @property
    def scattered(self) -> bool:
        """Some plane's channels differ in their scale, which every element then loads for itself."""
        if self.axis != "token":
            return False
        part = self.bytes // self.ranges
        starts = range(0, self.bytes * self.shifts, part)
        ends = (min(start + part, self.width) - 1 for start in starts)
        return any(start // self.group_size != end // self.group_size for start, end in zip(starts, ends, strict=True))


@cache
def _format(name: str, axis: str, group_size: int, width: int, rank: int) -> Format:
    shifts = _SHIFTS.get(name, 1)
    size = width if name in ("plain", "fp8") else padded_width(width, int(name[3:])) // shifts
    pairs = size % (4 if name == "int3" else 2) == 0 and width % 2 == 0
    each = 2 if name != "plain" and pairs and size >= 2 * _LEAST_WORDS else 1
    ranges = 1
    if axis == "token" and name != "int3" and each == 2 and group_size >= _LEAST_RANGE and size % group_size == 0:
        ranges = max(size // group_size, 1)
    return Format(
        name, axis, group_size, width, rank, shifts, size, each, ranges,
        planes=shifts * each,
        words=size // ranges // each,
        stride=size // each * 3 // 2 if name == "int3" else size // each,
        scales=width if axis == "channel" else width // group_size,
    )  # fmt: skip


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
