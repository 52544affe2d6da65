"""OpenVINO's unsigned integers: a float32 scale and a float32 zero point, which is not rounded, per group.

By token a group is ``group_size`` channels of one token, or the whole head. By channel, for keys alone, a group is one
channel of ``group_size`` tokens; while it fills, it is read back and quantized anew (:meth:`KVFormat.append`).

``KEY_CACHE_QUANT_MODE`` says which. Its default on processors is by channel, in cache blocks of 32 tokens, with the
paged attention that OpenVINO GenAI runs, and by token without it; values are always by token. So 2026.4.1 does: the
values here are its own, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field

from autokv.formats.arithmetic import blocks, fused_multiply_add, over_groups_of_tokens
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

    quant_mode: Literal["by_token", "by_channel"] = "by_token"
    group_size: int | None = Field(
        None,
        ge=2,
        multiple_of=2,
        description="channels of a group by token, null: the whole head; tokens of a group by channel, null: 32",
    )

    @property
    def group_tokens(self) -> int | None:
        return 1 if self.quant_mode == "by_token" else self.group_size or CACHE_BLOCK

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if self.per_token and head_dim % (self.group_size or head_dim):
            raise ValueError(f"group_size {self.group_size} does not divide heads of {head_dim} channels")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        if self.per_token:
            groups = tokens * (head_dim // (self.group_size or head_dim))
        else:
            groups = -(-tokens // (self.group_size or CACHE_BLOCK)) * head_dim
        return heads * (tokens * head_dim * self.bits // 8 + 8 * groups)

    def round_trip(self, x: Tensor) -> Tensor:
        self.check(x.shape[-1])
        if self.per_token:
            return self._round_trip(blocks(x, self.group_size or x.shape[-1]), -1).reshape(x.shape)
        return over_groups_of_tokens(x, self.group_size or CACHE_BLOCK, lambda group: self._round_trip(group, -2))

    def _round_trip(self, groups: Tensor, over: int) -> Tensor:
        levels = (1 << self.bits) - 1
        low, high = groups.amin(over, keepdim=True), groups.amax(over, keepdim=True)
        scale = (high - low) / levels if self.per_token else (high - low) * (1 / levels)
        scale = scale.masked_fill(scale == 0, 0.0001)
        zero = -low / scale
        codes = fused_multiply_add(groups, scale.reciprocal(), zero).round().clamp(0, levels)
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
