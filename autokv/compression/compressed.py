"""``CompressedKV``: one layer's keys and values, compressed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression.bitmap import decode_kept
from autokv.kernels import Operands, Side, held_tensors
from autokv.kernels.reconstruct import reconstruct


@dataclass(frozen=True)
class CompressedKV:
    """Owns every tensor that one layer's compressed cache needs, and nothing else."""

    context_tokens: int
    """Tokens of the context before eviction."""
    kept: Tensor | None
    """uint8 ``[rows, ceil(context_tokens / 8)]``, see :mod:`autokv.compression.bitmap`; None if all tokens stay."""
    held: Operands

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor that is held. Hadamard matrices are constants of the process and not counted."""
        return sum(tensor.nbytes for tensor in held_tensors(self))

    @property
    def lengths(self) -> Tensor:
        """Kept tokens, int64 ``[batch, kv_heads]``."""
        lengths = self.held.older.lengths.to(self.held.keys.window.device) + self.held.newest
        return lengths.view(self.held.batch, self.held.kv_heads)

    def kept_positions(self, batch: int, head: int) -> Tensor:
        """Positions in the context of the tokens that one KV head keeps, int64, ascending."""
        if self.kept is None:
            return torch.arange(self.context_tokens, device=self.held.keys.window.device)
        return decode_kept(self.kept[batch * self.held.kv_heads + head])

    def operands(self) -> Operands:
        """What ``autokv.kernels`` attends over."""
        return self.held

    def materialize(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values ``[batch, kv_heads, longest, head_dim]`` in ``dtype``, and :attr:`lengths`.

        Every head's tokens come first, oldest first; zeros fill up to the longest head.
        """
        return self._dense(self.held.keys, dtype), self._dense(self.held.values, dtype), self.lengths

    def _dense(self, side: Side, dtype: torch.dtype) -> Tensor:
        held, older = self.held, self.held.older
        longest = older.longest + held.newest
        tokens = torch.empty(older.count, longest, held.head_dim, dtype=dtype, device=side.window.device)
        rebuilt, inside = reconstruct(side, older), older.inside()
        if inside is None:
            tokens[:, : older.longest] = rebuilt
            tokens[:, older.longest :] = side.window
        else:
            torch.mul(rebuilt, inside[:, :, None], out=rebuilt)
            tokens[:, : older.longest] = rebuilt
            tokens[:, older.longest :] = 0
            starts = torch.arange(0, older.count * longest, longest, device=tokens.device) + older.lengths
            places = starts[:, None] + torch.arange(held.newest, device=tokens.device)
            tokens.view(-1, held.head_dim).index_copy_(0, places.view(-1), side.window.to(dtype).flatten(0, 1))
        return tokens.view(held.batch, held.kv_heads, longest, held.head_dim)
