"""MLX's affine integers, which mlx-lm's quantized cache holds.

Written from what ``mx.quantize`` of MLX 0.32.4 stores on a processor, and held to it value by value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from autokv.formats.arithmetic import blocks
from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor


class MLXAffine(KVFormat):
    """Integers from the group's value of the largest magnitude, which is exact: the scale is fitted so that 0 is too.

    Scale and bias are of the model's type; two bytes are counted for each.
    """

    title: ClassVar[str] = "MLX affine"
    engines: ClassVar[tuple[str, ...]] = ("mlx-lm",)
    source: ClassVar[str] = "https://github.com/ml-explore/mlx/blob/v0.32.4/mlx/backend/cpu/quantized.cpp"
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
        group = blocks(x, self.group_size)
        low, high = group.amin(-1, keepdim=True), group.amax(-1, keepdim=True)
        levels = (1 << self.bits) - 1
        width = ((high - low) / levels).clamp(min=1e-7)
        from_below = low.abs() > high.abs()
        scale = torch.where(from_below, width, -width)
        edge = torch.where(from_below, low, high)
        code_of_zero = (edge / scale).round()
        scale = torch.where(code_of_zero == 0, scale, edge / code_of_zero)
        bias = torch.where(code_of_zero == 0, 0, edge)
        codes = ((group - bias) / scale).round().clamp(0, levels)
        return (codes * scale + bias).reshape(x.shape)
