"""``CompressedKV``: one layer's keys and values, compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from autokv.compression.kept import decode_kept
from autokv.config import FormatQuantization, Quantization
from autokv.kernels import Operands, held_tensors, join, select
from autokv.kernels.reconstruct import materialize


@dataclass(frozen=True)
class CompressedKV:
    """Owns every tensor that one layer's compressed cache needs, and nothing else."""

    held: Operands
    """What ``autokv.kernels`` attends over."""
    kept: Tensor | None
    """uint8 ``[rows, bytes]``, see :func:`autokv.compression.kept.encode_kept`; None if all tokens stay."""
    tokens: tuple[int, ...]
    """Tokens of every batch entry before eviction, padding left out."""

    @classmethod
    def join(cls, parts: Sequence[CompressedKV]) -> Self:
        """One batch of the entries of ``parts``, whose residual windows are equally long."""
        kept = None
        if any(part.kept is not None for part in parts):
            widest = -(-max(max(part.tokens) for part in parts) // 8)
            bitmaps = [part._bitmap() for part in parts]
            kept = torch.cat([F.pad(bitmap, (0, widest - bitmap.shape[1])) for bitmap in bitmaps])
        tokens = tuple(tokens for part in parts for tokens in part.tokens)
        return cls(join([part.held for part in parts]), kept, tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor that is held. Hadamard matrices are constants of the process and not counted."""
        return sum(tensor.nbytes for tensor in held_tensors(self))

    def kept_positions(self, batch: int, head: int) -> Tensor:
        """Positions in the context of the tokens that one KV head keeps, int64, ascending; padding has none."""
        if self.kept is None:
            return torch.arange(self.tokens[batch], device=self.held.keys.residual_window.device)
        return decode_kept(self.kept[batch * self.held.kv_heads + head])

    def materialize(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """See :func:`autokv.kernels.reconstruct.materialize`."""
        return materialize(self.held, dtype)

    def select(self, entries: Tensor) -> CompressedKV:
        """The batch ``entries`` (int64, any order, repeats allowed), in memory of their own."""
        tokens, kept = self.tokens, self.kept
        alike = len(set(tokens)) == 1
        chosen = tokens[:1] * len(entries) if alike else tuple(tokens[entry] for entry in entries.tolist())
        if kept is not None:
            kept = kept.view(self.held.batch, -1).index_select(0, entries).view(-1, kept.shape[1])
        return CompressedKV(select(self.held, entries), kept, chosen)

    def without_window(self) -> CompressedKV:
        """The same without the tokens of the residual window, which are held elsewhere."""
        keys, values = (
            replace(side, residual_window=side.residual_window[:, :0].clone())
            for side in (self.held.keys, self.held.values)
        )
        return replace(self, held=replace(self.held, keys=keys, values=values))

    def _bitmap(self) -> Tensor:
        """:attr:`kept`, spelled out where all tokens of a context stay."""
        if self.kept is not None:
            return self.kept
        rows, tokens = self.held.older.count, max(self.tokens)
        device = self.held.keys.residual_window.device
        bitmap = torch.full((rows, -(-tokens // 8)), 255, dtype=torch.uint8, device=device)
        bitmap[:, -1] = 255 >> -tokens % 8
        return bitmap


def stored_bytes(compressed: CompressedKV, stage: Quantization) -> int:
    """Bytes that a cache holds for ``compressed``: of an engine's format, what that engine allocates."""
    if not isinstance(stage, FormatQuantization):
        return compressed.nbytes
    held, formats = compressed.held, (stage.key, stage.value)
    lengths: list[int] = held.older.lengths.flatten().tolist()
    if len({*lengths}) == 1:
        sequences = [(lengths[0], held.kv_heads)] * held.batch if lengths[0] else []
    else:  # heads that hold tokens of their own
        sequences = [(tokens, 1) for tokens in lengths if tokens]
    older = sum(form.nbytes(tokens, heads, held.head_dim) for tokens, heads in sequences for form in formats)
    windows = held.keys.residual_window.nbytes + held.values.residual_window.nbytes
    return older + windows + (0 if compressed.kept is None else compressed.kept.nbytes)
