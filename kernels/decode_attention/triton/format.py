"""How a side is held, as the kernel's compile-time arguments say it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from autokv.kernels.operands import Float8, Integers, Side
from autokv.kernels.quantize_pack.packing import padded_width

_SHIFTS = {"int4": 2, "int3": 4, "int2": 4}
_LEAST_WORDS = 9
"""Fewer words than that in a plane leave half of a tensor core's operand empty: bytes are taken as words."""
_LEAST_RANGE = 32
"""Bytes of a range: two words times what a tensor core takes."""


@dataclass(frozen=True, eq=False)
class Format:
    """See :mod:`.codes` for the words. There is one object for every format: identity is equality."""

    name: str
    axis: str
    group_size: int
    width: int
    rank: int

    @classmethod
    def of(cls, side: Side) -> Format:
        """The format of ``side``."""
        packed, rank = side.packed, 0 if side.left is None else side.left.shape[1]
        if isinstance(packed, Integers):
            return _format(f"int{packed.bits}", packed.axis, packed.group_size, packed.width, rank)
        if isinstance(packed, Float8):
            return _format("fp8", "row", 1, packed.codes.shape[1], rank)
        return _format("plain", "none", 1, packed.data.shape[1], rank)

    @cached_property
    def shifts(self) -> int:
        """Codes in a byte, the low ones of 3 bit."""
        return _SHIFTS.get(self.name, 1)

    @cached_property
    def bytes(self) -> int:
        """Bytes of a token that hold codes of its whole width (the low ones of 3 bit); elements of 16 bits."""
        if self.name in ("plain", "fp8"):
            return self.width
        return padded_width(self.width, int(self.name[3:])) // self.shifts

    @cached_property
    def each(self) -> int:
        """Bytes in a word."""
        pairs = self.bytes % (4 if self.name == "int3" else 2) == 0 and self.width % 2 == 0
        return 2 if self.name != "plain" and pairs and self.bytes >= 2 * _LEAST_WORDS else 1

    @cached_property
    def ranges(self) -> int:
        """Parts of the words, in each of which a token's channels share their scale."""
        if self.axis != "token" or self.name == "int3" or self.each == 1 or self.group_size < _LEAST_RANGE:
            return 1
        return max(self.bytes // self.group_size, 1) if self.bytes % self.group_size == 0 else 1

    @cached_property
    def step(self) -> int:
        """Splits start at multiples of it, so that a step of the loop lies within one group of tokens."""
        return self.group_size if self.axis == "channel" else 1

    @cached_property
    def scattered(self) -> bool:
        """Some plane's channels differ in their scale, which every element then loads for itself."""
        if self.axis != "token":
            return False
        part = self.bytes // self.ranges
        starts = range(0, self.bytes * self.shifts, part)
        ends = (min(start + part, self.width) - 1 for start in starts)
        return any(start // self.group_size != end // self.group_size for start, end in zip(starts, ends, strict=True))

    @cached_property
    def arguments(self) -> dict[str, dict[str, object]]:
        """The kernel's arguments for keys (``K``) and for values (``V``)."""
        arguments = {
            "FORMAT": self.name,
            "AXIS": self.axis,
            "GROUP": self.group_size,
            "WIDTH": self.width,
            "RANK": self.rank,
            "BYTES": self.bytes,
            "SHIFTS": self.shifts,
            "EACH": self.each,
            "RANGES": self.ranges,
        }
        return {side: {f"{side}_{name}": value for name, value in arguments.items()} for side in "KV"}


@cache
def _format(name: str, axis: str, group_size: int, width: int, rank: int) -> Format:
    """The one object of a format, so that what is derived from it is derived once."""
    return Format(name, axis, group_size, width, rank)
