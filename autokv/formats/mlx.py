"""MLX's affine integers, which mlx-lm's KV cache holds: a scale and a bias per group of channels, of the model's type.

The edge of larger magnitude is a multiple of the scale, so that zero is held exactly where it can be. The scale's sign
says which edge that is. Two bytes are counted for each scale and bias, and they are not rounded, as of a model in
float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal

from autokv.formats.arithmetic import blocks
from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST_SCALE: Final = 1e-7


class MLXAffine(KVFormat):
    """Groups of channels of one token."""

    title: ClassVar[str] = "MLX affine integers"
    engines: ClassVar[tuple[str, ...]] = ("mlx-lm",)
    source: ClassVar[str] = (
        "https://github.com/ml-explore/mlx/blob/0e18bb05ac13/mlx/backend/cpu/quantized.cpp (quantize)"
    )
    format: Literal["mlx_affine"] = "mlx_affine"

    bits: Literal[2, 3, 4, 5, 6, 8]
    group_size: Literal[32, 64, 128] = 64

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if head_dim % self.group_size:
            raise ValueError(f"group_size {self.group_size} does not divide heads of {head_dim} channels")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        return tokens * heads * (head_dim * self.bits // 8 + 4 * (head_dim // self.group_size))

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        self.check(x.shape[-1])
        groups, levels = blocks(x, self.group_size), (1 << self.bits) - 1
        low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
        from_low = low.abs() > high.abs()
        scale = ((high - low) / levels).clamp(min=_SMALLEST_SCALE)
        scale = torch.where(from_low, scale, -scale)
        edge = torch.where(from_low, low, high)
        steps = (edge / scale).round()
        scale = torch.where(steps != 0, edge / steps, scale)
        bias = torch.where(steps != 0, edge, 0.0)
        codes = ((groups - bias) / scale).round().clamp(0, levels)
        return (codes * scale + bias).reshape(x.shape)
