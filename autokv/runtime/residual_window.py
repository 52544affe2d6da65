"""The residual window of a layer, its newest tokens in 16 bits: what is generated arrives here and leaves in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.quantization import held


class ResidualWindow:
    """A buffer of ``capacity`` tokens per row, oldest first.

    The first :attr:`pending` tokens have been chosen to stay and wait for enough others to share scales with; the
    rest have not been judged.

    Args:
        keys: ``[rows, n, head_dim]`` in 16 bits, the tokens to begin with, as ``values``.
        values: see ``keys``.
        capacity: at least n.
        scored: keep the attention that each token receives.
    """

    def __init__(self, keys: Tensor, values: Tensor, capacity: int, *, scored: bool) -> None:
        rows, self.used, head_dim = keys.shape
        self.pending = 0
        # Tensors of inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            self.keys = keys.new_empty(rows, capacity, head_dim)
            self.values = torch.empty_like(self.keys)
            self.received = keys.new_zeros(rows, capacity, dtype=torch.float32) if scored else None
        self.keys[:, : self.used] = keys
        self.values[:, : self.used] = values

    @property
    def capacity(self) -> int:
        """Tokens that it holds at most; 0 if tokens are compressed as they are appended."""
        return self.keys.shape[1]

    @property
    def room(self) -> int:
        """Tokens that fit before a block has to leave."""
        return self.capacity - self.used

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Add ``[rows, n, head_dim]`` of any dtype, n at most :attr:`room`; what float16 cannot hold saturates."""
        places = slice(self.used, self.used + keys.shape[1])
        for buffer, tokens in ((self.keys, keys), (self.values, values)):
            buffer[:, places] = tokens if tokens.dtype == buffer.dtype else held(tokens, buffer.dtype)
        self.used = places.stop

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Keys and values ``[rows, used, head_dim]``, views."""
        return self.keys[:, : self.used], self.values[:, : self.used]

    def block(self, count: int) -> slice:
        """The oldest ``count`` tokens that have not been judged."""
        return slice(self.pending, self.pending + count)

    def leave(self, count: int, kept: Tensor | None, group: int) -> tuple[Tensor, Tensor]:
        """Take the oldest ``count`` unjudged tokens out of the window.

        Args:
            count: how many are judged.
            kept: int64 ``[rows, k]``, ascending: which of them stay; None if all do.
            group: only multiples of it can leave together; the rest stay as pending tokens.

        Returns:
            Keys and values ``[rows, n, head_dim]``, n a multiple of ``group``.
        """
        staying = self.pending + (count if kept is None else kept.shape[1])
        leaving = staying - staying % group
        end = self.used - count - self.pending + staying - leaving
        left = tuple(self._compact(buffer, count, kept, leaving) for buffer in (self.keys, self.values))
        if self.received is not None:
            fresh = self.received[:, self.pending + count : self.used].clone()
            self.received.zero_()
            self.received[:, staying - leaving : end] = fresh
        self.used, self.pending = end, staying - leaving
        return left[0], left[1]

    def _compact(self, buffer: Tensor, count: int, kept: Tensor | None, leaving: int) -> Tensor:
        block = buffer[:, self.block(count)]
        if kept is not None:
            block = block.gather(1, kept[:, :, None].expand(-1, -1, buffer.shape[2]))
        front = torch.cat([buffer[:, : self.pending], block], dim=1) if self.pending else block.clone()
        rest = torch.cat([front[:, leaving:], buffer[:, self.pending + count : self.used]], dim=1)
        buffer[:, : rest.shape[1]] = rest
        return front[:, :leaving]

    def pass_on(self, keys: Tensor, values: Tensor, leaving: int) -> tuple[Tensor, Tensor]:
        """Append ``[rows, n, head_dim]``, any n, and take the oldest ``leaving`` tokens out.

        Returns:
            Keys and values ``[rows, used + n, head_dim]``: all that was here, and what came.
        """
        every = []
        for buffer, tokens in ((self.keys, keys), (self.values, values)):
            both = torch.cat([buffer[:, : self.used], held(tokens, buffer.dtype)], dim=1)
            buffer[:, : both.shape[1] - leaving] = both[:, leaving:]
            every.append(both)
        self.used += keys.shape[1] - leaving
        return every[0], every[1]

    def select(self, rows: Tensor) -> None:
        """Keep ``rows`` (int64, any order, repeats allowed)."""
        with torch.inference_mode(False):
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)
            if self.received is not None:
                self.received = self.received.index_select(0, rows)

    def held(self) -> list[Tensor]:
        """Every tensor of the window."""
        return [self.keys, self.values, *([] if self.received is None else [self.received])]
