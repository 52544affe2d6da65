"""ONNX Runtime GenAI's integers: symmetric, with scales of a calibration file, per tensor or per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from autokv.formats.arithmetic import reciprocal
from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor

Scale = Annotated[float, Field(ge=0)]
OfChannels = Annotated[tuple[Scale, ...], Field(min_length=1)]


class StaticInteger(KVFormat):
    """What both widths share.

    ``scale`` belongs to the model: ONNX Runtime GenAI does not run without it. Where it is not given, it is taken from
    what is stored, as a calibration would: the largest magnitude over the largest code.
    """

    engines: ClassVar[tuple[str, ...]] = ("ONNX Runtime GenAI",)
    source: ClassVar[str] = (
        "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/contrib_ops/cuda/bert/"
        "group_query_attention_qdq.cuh (a copy of 2026)"
    )
    bits: ClassVar[int]

    scaling: Literal["tensor", "channel"] = "channel"
    scale: Scale | Annotated[tuple[OfChannels, ...], Field(min_length=1)] | None = Field(
        None, description="a number, of scaling 'tensor'; per KV head and channel, of scaling 'channel'"
    )

    @model_validator(mode="after")
    def _scale_of_its_kind(self) -> Self:
        if self.scale is not None and isinstance(self.scale, float) != (self.scaling == "tensor"):
            wanted = "one number" if self.scaling == "tensor" else "a list of channels per KV head"
            raise ValueError(f"scale of scaling '{self.scaling}' should be {wanted}")
        if isinstance(self.scale, tuple) and len({len(channels) for channels in self.scale}) > 1:
            raise ValueError("scale should have as many channels for each KV head")
        return self

    @property
    def group_tokens(self) -> int | None:
        return None if self.scale is None else 1

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if isinstance(self.scale, tuple):
            if len(self.scale[0]) != head_dim:
                raise ValueError(f"scale has {len(self.scale[0])} channels, and the heads have {head_dim}")
            if heads is not None and len(self.scale) != heads:
                raise ValueError(f"scale has {len(self.scale)} KV heads, and the layer has {heads}")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim, heads)
        return tokens * heads * -(-head_dim * self.bits // 8)

    def round_trip(self, x: Tensor) -> Tensor:
        self.check(x.shape[-1], x.shape[1])
        scale = self._scale(x)
        top = 1 << self.bits - 1
        return (x * reciprocal(scale)).round().clamp(-top, top - 1) * scale

    def calibrated(self, x: Tensor) -> Self:
        if self.scale is not None:
            return self
        scales = self._scale(x)
        if self.scaling == "tensor":
            return self.model_copy(update={"scale": scales.item()})
        return self.model_copy(update={"scale": tuple(tuple(head) for head in scales[0, :, 0].tolist())})

    def _scale(self, x: Tensor) -> Tensor:
        """Of a shape that broadcasts over ``x``."""
        import torch

        if self.scale is None:
            over = (0, 1, 2, 3) if self.scaling == "tensor" else (0, 2)
            return x.abs().amax(over, keepdim=True) / ((1 << self.bits - 1) - 1)
        given = torch.tensor(self.scale, dtype=torch.float32, device=x.device)
        return given if self.scaling == "tensor" else given[None, :, None]


class StaticInt8(StaticInteger):
    """8-bit; ``int8_per_tensor`` and ``int8_per_channel``."""

    title: ClassVar[str] = "int8 with static scales"
    bits: ClassVar[int] = 8
    format: Literal["static_int8"] = "static_int8"


class StaticInt4(StaticInteger):
    """4-bit; ``int4_per_tensor`` and ``int4_per_channel``."""

    title: ClassVar[str] = "int4 with static scales"
    bits: ClassVar[int] = 4
    format: Literal["static_int4"] = "static_int4"
