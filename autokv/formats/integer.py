"""AutoKV's own integers: what its runtime packs, one format per side, in groups that may be a whole head."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from autokv.formats.arithmetic import blocks, hadamard, over_groups_of_tokens, power_of_two_in, reciprocal
from autokv.formats.base import KVFormat, Rotation

if TYPE_CHECKING:
    from torch import Tensor

_HALF_MAX: Final = 65504.0


class MinMaxInteger(KVFormat):
    """Asymmetric min-max integers (KIVI, Liu et al., 2024).

    ``axis`` is what shares a scale: ``token`` gives each token a scale over ``group_size`` channels, ``channel`` gives
    each channel a scale over ``group_size`` tokens. Scale and minimum are float16, rounded outwards, so that a value
    within ±65,504 is at most half a step from what is read.
    """

    title: ClassVar[str] = "min-max integers"
    engines: ClassVar[tuple[str, ...]] = ("AutoKV",)
    source: ClassVar[str] = "kernels/quantize_pack of AutoKV"
    format: Literal["integer"] = "integer"

    bits: Literal[2, 3, 4, 8]
    axis: Literal["channel", "token"]
    group_size: int | None = Field(
        None, ge=8, le=1024, description="null: a whole head, of axis 'token'; tokens of axis 'channel'"
    )
    rotation: Rotation = "none"

    @model_validator(mode="after")
    def _tokens_come_in_groups(self) -> Self:
        if self.axis == "channel" and self.group_size is None:
            raise ValueError("group_size is missing: of axis 'channel' it is a number of tokens")
        return self

    @property
    def group_tokens(self) -> int | None:
        return 1 if self.axis == "token" else self.group_size

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if self.per_token and head_dim % (self.group_size or head_dim):
            raise ValueError(f"group_size {self.group_size} does not divide heads of {head_dim} channels")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        in_whole_bytes = 8 if self.bits == 3 else 8 // self.bits
        row = -(-head_dim // in_whole_bytes) * in_whole_bytes * self.bits // 8
        size = self.group_size or head_dim
        groups = tokens * (head_dim // size) if self.per_token else -(-tokens // size) * head_dim
        return heads * (tokens * row + 4 * groups)

    def round_trip(self, x: Tensor) -> Tensor:
        self.check(x.shape[-1])
        channels = power_of_two_in(x.shape[-1]) if self.rotation == "hadamard" else 1
        rotated = hadamard(x, channels) if channels > 1 else x
        size = self.group_size or x.shape[-1]
        if self.per_token:
            read = self._round_trip(blocks(rotated, size), -1).reshape(x.shape)
        else:
            read = over_groups_of_tokens(rotated, size, lambda group: self._round_trip(group, -2))
        return hadamard(read, channels) if channels > 1 else read

    def _round_trip(self, groups: Tensor, over: int) -> Tensor:
        levels = (1 << self.bits) - 1
        low = -_half_not_below(-groups.amin(over, keepdim=True))
        high = groups.amax(over, keepdim=True).clamp(-_HALF_MAX, _HALF_MAX)
        scale = _half_not_below((high - low) / levels)
        codes = ((groups - low) * reciprocal(scale)).round().clamp(0, levels)
        return codes * scale + low


def _half_not_below(x: Tensor) -> Tensor:
    """The nearest finite float16 that is not below, in float32."""
    import torch

    half = x.clamp(-_HALF_MAX, _HALF_MAX).half()
    above = torch.nextafter(half, torch.tensor(torch.inf, dtype=torch.float16, device=x.device))
    return torch.where(half.float() < x, above, half).float().clamp(max=_HALF_MAX)
