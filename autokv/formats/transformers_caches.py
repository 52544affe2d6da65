"""The two backends of transformers' quantized cache: quanto and HQQ.

Both cut the keys or values of all heads and tokens into groups of ``group_size`` numbers, and requantize everything
whenever the window of recent tokens is full. Scales and zero points are of the model's type: two bytes are counted for
each, and the arithmetic is float32, as of a model in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor


class _Grouped(KVFormat):
    engines: ClassVar[tuple[str, ...]] = ("transformers",)

    group_size: int = Field(64, ge=2)

    @property
    def group_tokens(self) -> int | None:
        return None

    def _groups(self, numbers: int) -> int:
        """How many groups ``numbers`` make.

        Raises:
            ValueError: they do not come out even.
        """
        if numbers % self.group_size:
            raise ValueError(f"{self.format} needs a multiple of group_size {self.group_size}; these are {numbers}")
        return numbers // self.group_size


class Quanto(_Grouped):
    """Min-max integers of optimum-quanto; the shift is the minimum itself.

    ``axis`` is of transformers' ``axis_key`` and ``axis_value``: 0 groups numbers that are neighbours in memory, the
    channels of a token first; -1 groups one channel of tokens that follow each other.
    """

    title: ClassVar[str] = "quanto"
    source: ClassVar[str] = (
        "https://github.com/huggingface/optimum-quanto/blob/v0.2.7/optimum/quanto/tensor/optimizers/max_optimizer.py, "
        "https://github.com/huggingface/optimum-quanto/blob/v0.2.7/optimum/quanto/library/quantize.py"
    )
    format: Literal["quanto"] = "quanto"

    bits: Literal[2, 4]
    axis: Literal[0, -1] = 0

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        numbers = tokens * heads * head_dim
        groups = self._groups(numbers) if self.axis == 0 else self._groups(tokens * heads) * head_dim
        return numbers * self.bits // 8 + 4 * groups

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        if self.axis == 0:
            grouped = x.reshape(self._groups(x.numel()), self.group_size, 1)
        else:
            grouped = x.reshape(self._groups(x.numel() // x.shape[-1]), self.group_size, x.shape[-1])
        low, high = grouped.amin(1, keepdim=True), grouped.amax(1, keepdim=True)
        scale = (high - low) / ((1 << self.bits) - 1)
        codes = ((grouped - low) / scale).round().clamp(0, (1 << self.bits) - 1)
        codes = torch.where(scale == 0, 0, codes)
        return (scale * codes + low).reshape(x.shape)


class HQQ(_Grouped):
    """Integers of HQQ, whose zero points are moved to lessen the error's 0.7-norm (Badri and Shaji, 2023).

    ``axis``: 1 groups numbers that are neighbours in memory, channels of a token first; 0 groups numbers that are as
    far apart as there are groups.
    """

    title: ClassVar[str] = "HQQ"
    source: ClassVar[str] = (
        "https://github.com/mobiusml/hqq/blob/0.2.8/hqq/core/quantize.py, "
        "https://github.com/mobiusml/hqq/blob/0.2.8/hqq/core/optimize.py (optimize_weights_proximal_legacy)"
    )
    format: Literal["hqq"] = "hqq"

    bits: Literal[1, 2, 4, 8]
    axis: Literal[0, 1] = 0

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        numbers = tokens * heads * head_dim
        return self._packed_rows(numbers) * self.bits // 8 * (numbers // self._rows(numbers)) + 4 * self._groups(
            numbers
        )

    def _rows(self, numbers: int) -> int:
        """First dimension of what HQQ packs."""
        return self._groups(numbers) if self.axis == 1 else self.group_size

    def _packed_rows(self, numbers: int) -> int:
        rows = self._rows(numbers)
        if rows % (8 // self.bits):
            raise ValueError(
                f"hqq packs {8 // self.bits} rows of groups into one byte, and {rows} do not come out even"
            )
        return rows

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        self._packed_rows(x.numel())
        grouped = x.reshape(-1, self.group_size) if self.axis == 1 else x.reshape(self.group_size, -1)
        levels = (1 << self.bits) - 1
        low, high = grouped.amin(self.axis, keepdim=True), grouped.amax(self.axis, keepdim=True)
        scale = torch.where(high - low <= 1e-4, 1.0, levels / (high - low)).clamp(max=2e4)
        zero = self._best_zero(grouped, scale, -low * scale, levels)
        codes = (grouped * scale + zero).round().clamp(0, levels)
        return ((codes - zero) * scale.reciprocal()).reshape(x.shape)

    def _best_zero(self, grouped: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
        """At most 20 proximal steps, stopped when the mean error of all groups no longer falls."""
        best = float("inf")
        for _ in range(20):
            codes = (grouped * scale + zero).round().clamp(0, levels)
            error = grouped - (codes - zero) / scale
            magnitude = error.abs()
            shrunk = (magnitude - 0.1 * magnitude.pow(-0.3)).clamp(min=0) * error.sign()
            zero = (codes - (grouped - shrunk) * scale).mean(self.axis, keepdim=True)
            mean_error = float(magnitude.mean())
            if mean_error >= best:
                break
            best = mean_error
        return zero
