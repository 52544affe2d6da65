"""What decode attention reads: the compressed keys and values of one layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

from torch import Tensor

from autokv.kernels.rows import Rows

Axis = Literal["channel", "token"]


@dataclass(frozen=True)
class Plain:
    """Coordinates held in 16 bits, or in float32 where they are only read back."""

    data: Tensor
    """``[tokens, width]``; float16 or bfloat16 for the kernels."""


@dataclass(frozen=True)
class Integers:
    """Packed asymmetric integers: coordinate = code * scale + minimum."""

    codes: Tensor
    """uint8 ``[tokens, bytes]``, see :mod:`autokv.kernels.quantize_pack.packing`."""
    scale: Tensor
    """float16: ``[groups, width]`` for axis ``channel``, ``[tokens, width / group_size]`` for axis ``token``."""
    minimum: Tensor
    """float16, shaped as ``scale``."""
    bits: int
    axis: Axis
    group_size: int
    width: int


@dataclass(frozen=True)
class Float8:
    """e4m3 floats: coordinate = code * scale."""

    codes: Tensor
    """uint8 ``[tokens, width]``, the bit patterns of ``torch.float8_e4m3fn``."""
    scale: Tensor
    """float32 ``[rows]``."""


Packed = Plain | Integers | Float8


@dataclass(frozen=True)
class LowRankResidual:
    """What quantization lost, near ``left @ right.T`` (GEAR, Kang et al., 2024)."""

    left: Tensor
    """``[tokens, rank]`` in 16 bits."""
    right: Tensor
    """float16 ``[rows, width, rank]``, orthonormal columns."""


@dataclass(frozen=True)
class Side:
    """The keys or the values of one layer.

    An older token is its packed coordinates, plus the low-rank residual where there is one, taken out of the basis
    where there is one. The tokens of the residual window, the newest, are held in full precision (KIVI, Liu et al.,
    2024).
    """

    packed: Packed
    residual_window: Tensor
    """``[rows, residual_tokens, head_dim]`` in 16 bits; may be the first places of a larger buffer, rows apart."""
    rotated: bool = False
    """The coordinates are in the Hadamard basis (:mod:`autokv.kernels.hadamard`)."""
    basis: Tensor | None = None
    """float16 ``[rows, head_dim, width]``, orthonormal columns: the coordinates are in this latent basis."""
    low_rank_residual: LowRankResidual | None = None


@dataclass(frozen=True)
class Operands:
    """One layer's compressed keys and values; row ``b * kv_heads + h`` is KV head ``h`` of batch entry ``b``."""

    batch: int
    kv_heads: int
    head_dim: int
    older: Rows
    """The tokens before the residual window."""
    keys: Side
    values: Side

    @property
    def residual_tokens(self) -> int:
        """Tokens of every row's residual window."""
        return self.keys.residual_window.shape[1]

    @property
    def lengths(self) -> Tensor:
        """Tokens of every head, int64 ``[batch, kv_heads]``."""
        lengths = self.older.lengths.to(self.keys.residual_window.device) + self.residual_tokens
        return lengths.view(self.batch, self.kv_heads)


def held_tensors(value: object) -> Iterator[Tensor]:
    """Every tensor that a dataclass holds, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from held_tensors(getattr(value, field.name))
