"""Ragged rows: every KV head may hold its own number of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """How flat storage ``[tokens, ...]`` divides into rows, one per (batch, KV head), one behind the other.

    Computation is done on the dense form ``[count, longest, ...]``; in it, the places beyond a row's end hold copies
    of the row's last token, so that they never widen a range and never hold uninitialised memory.
    """

    count: int
    longest: int
    offsets: Tensor | None = None
    """int64 ``[count + 1]``, the start of each row in flat storage; None if every row has ``longest`` tokens."""

    @classmethod
    def of_lengths(cls, lengths: Tensor) -> Rows:
        """Rows of ``lengths`` (int64 ``[count]``); equal lengths need no offsets."""
        shortest, longest = (int(length) for length in lengths.aminmax())
        offsets = None if shortest == longest else _starts(lengths)
        return cls(len(lengths), longest, offsets)

    @property
    def lengths(self) -> Tensor:
        """int64 ``[count]``."""
        if self.offsets is None:
            return torch.full((self.count,), self.longest)
        return self.offsets.diff()

    def groups(self, size: int) -> Rows:
        """The rows' groups of ``size`` tokens; a row's last group may be partial."""
        if size not in self._groups:
            offsets = None
            if self.offsets is not None:
                offsets = _starts(self.lengths.add(size - 1).div(size, rounding_mode="floor"))
            self._groups[size] = Rows(self.count, -(-self.longest // size), offsets)
        return self._groups[size]

    @cached_property
    def _groups(self) -> dict[int, Rows]:
        return {}

    def take(self, rows: Tensor) -> tuple[Rows, Tensor]:
        """The ``rows`` (int64 ``[n]``, any order) as rows of their own, and where in flat storage their tokens lie."""
        if self.offsets is None:
            places = rows[:, None] * self.longest + torch.arange(self.longest, device=rows.device)
            return Rows(len(rows), self.longest), places.view(-1)
        lengths = self.lengths.index_select(0, rows)
        taken = Rows.of_lengths(lengths)
        starts = self.offsets.index_select(0, rows) - _starts(lengths)[:-1]
        return taken, starts.repeat_interleave(lengths) + torch.arange(int(lengths.sum()), device=rows.device)

    def inside(self) -> Tensor | None:
        """bool ``[count, longest]``: the dense places that hold a token; None if all do."""
        if self.offsets is None:
            return None
        return torch.arange(self.longest, device=self.offsets.device) < self.lengths[:, None]

    def to_dense(self, flat: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Flat ``[tokens, ...]`` to dense ``[count, longest, ...]``; a view if the rows are uniform.

        With ``stop``, the dense places from ``start`` to it alone.
        """
        if self.offsets is None:
            dense = flat.view(self.count, self.longest, *flat.shape[1:])
            return dense if stop is None else dense[:, start:stop]
        place = torch.arange(start, self.longest if stop is None else stop, device=flat.device)
        index = self.offsets[:-1, None] + torch.minimum(place, self.lengths[:, None] - 1)
        return flat.index_select(0, index.clamp_min_(0).view(-1)).view(self.count, len(place), *flat.shape[1:])

    def to_flat(self, dense: Tensor) -> Tensor:
        """Dense ``[count, longest, ...]`` to flat ``[tokens, ...]``; a view if the rows are uniform."""
        flat = dense.reshape(self.count * self.longest, *dense.shape[2:])
        inside = self.inside()
        return flat if inside is None else flat.index_select(0, inside.view(-1).nonzero().view(-1))


def _starts(lengths: Tensor) -> Tensor:
    """Where rows of ``lengths`` begin, and where the last one ends."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
