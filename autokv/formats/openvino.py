"""OpenVINO's unsigned integers: a float32 scale and a float32 zero point, which is not rounded, per group.

By hidden dimension, its default on processors, a group is ``group_size`` channels of one token, or the whole head. By
channel (``KEY_CACHE_QUANT_MODE=BY_CHANNEL``) a group is one channel of a cache block of 32 tokens; while the block
fills, OpenVINO reads it back and quantizes it anew, which a round trip of whole blocks does not show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from autokv.formats.arithmetic import blocks
from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor

CACHE_BLOCK: Final = 32
"""Tokens of one of its cache blocks."""


class OpenVINOFormat(KVFormat):
    """What both widths share."""

    engines: ClassVar[tuple[str, ...]] = ("OpenVINO GenAI",)
    source: ClassVar[str] = (
        "https://github.com/openvinotoolkit/openvino/blob/c7956d57aeb8/src/plugins/intel_cpu/src/nodes/kernels/"
        "scaled_attn/attn_quant.cpp"
    )
    bits: ClassVar[int]

    quant_mode: Literal["by_hidden", "by_channel"] = "by_hidden"
    group_size: int | None = Field(
        None, ge=2, multiple_of=2, description="channels of a group of mode 'by_hidden'; null: the whole head"
    )

    @model_validator(mode="after")
    def _groups_of_channels(self) -> Self:
        if self.quant_mode == "by_channel" and self.group_size is not None:
            raise ValueError("group_size is given, but groups of mode 'by_channel' are cache blocks of 32 tokens")
        return self

    @property
    def per_token(self) -> bool:
        return self.quant_mode == "by_hidden"

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if head_dim % (self.group_size or head_dim):
            raise ValueError(f"group_size {self.group_size} does not divide heads of {head_dim} channels")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        if self.quant_mode == "by_channel":
            groups = -(-tokens // CACHE_BLOCK) * head_dim
        else:
            groups = tokens * (head_dim // (self.group_size or head_dim))
        return heads * (tokens * head_dim * self.bits // 8 + 8 * groups)

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        head_dim = x.shape[-1]
        self.check(head_dim)
        if self.quant_mode == "by_hidden":
            return self._round_trip(blocks(x, self.group_size or head_dim), -1).reshape(x.shape)
        whole = x.shape[2] // CACHE_BLOCK * CACHE_BLOCK
        full = x[:, :, :whole].unflatten(2, (-1, CACHE_BLOCK))
        parts = [self._round_trip(full, 3).flatten(2, 3)] if whole else []
        parts += [self._round_trip(x[:, :, whole:], 2)] if whole < x.shape[2] else []
        return torch.cat(parts, 2)

    def _round_trip(self, groups: Tensor, over: int) -> Tensor:
        low, high = groups.amin(over, keepdim=True), groups.amax(over, keepdim=True)
        scale = (high - low) / (2**self.bits - 1)
        scale = scale.masked_fill(scale == 0, 0.0001)
        zero = -low / scale
        codes = (groups * (1 / scale) + zero).round().clamp(0, 2**self.bits - 1)
        return (codes - zero) * scale


class OpenVINOU8(OpenVINOFormat):
    """8-bit; what OpenVINO does on processors unless it is told otherwise."""

    title: ClassVar[str] = "OpenVINO u8"
    bits: ClassVar[int] = 8
    format: Literal["openvino_u8"] = "openvino_u8"


class OpenVINOU4(OpenVINOFormat):
    """4-bit."""

    title: ClassVar[str] = "OpenVINO u4"
    width_multiple: ClassVar[int] = 2
    bits: ClassVar[int] = 4
    format: Literal["openvino_u4"] = "openvino_u4"
