"""The second stage: coordinates in fewer bits, as AutoKV's kernels or as an engine's KV cache holds them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from autokv.config.base import NoStage, Strict
from autokv.formats import AnyKVFormat, KVFormat

Bits = Literal[2, 3, 4, 8]
GROUP_SIZES = (16, 32, 64, 128)
"""Of any axis; channels may also be grouped by whole heads, of which not every width has one of these."""
GroupSize = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]


class IntegerFormat(Strict):
    """Asymmetric min-max integers.

    ``axis`` is what shares a scale: ``channel`` gives each channel its own scale over ``group_size`` consecutive
    tokens; ``token`` gives each token its own scale over ``group_size`` consecutive channels. Sizes are 16, 32, 64 and
    128; channels may also be grouped by a whole head of any multiple of 8 (72, say, which none of these divides).
    """

    bits: Bits
    axis: Literal["channel", "token"]
    group_size: GroupSize = 64

    @field_validator("group_size")
    @classmethod
    def _tokens_come_in_powers_of_two(cls, size: int, others: ValidationInfo) -> int:
        if others.data.get("axis") == "channel" and size not in GROUP_SIZES:
            raise ValueError("for axis 'channel' it should be 16, 32, 64 or 128")
        return size


class IntegerQuantization(Strict):
    method: Literal["integer"]
    key: IntegerFormat
    value: IntegerFormat
    rotation: Literal["none", "hadamard"] = "none"
    residual_tokens: int = Field(128, ge=0, le=32768, description="newest tokens held in 16 bits")


class FP8Quantization(Strict):
    """e4m3 with one scale per KV head, keys and values apart."""

    method: Literal["fp8"]
    rotation: Literal["none", "hadamard"] = "none"
    residual_tokens: int = Field(0, ge=0, le=32768)


class LayerFormats(Strict):
    """Layers that are held otherwise than the rest."""

    layers: Annotated[tuple[int, ...], Field(min_length=1)] | Literal["sliding_window"] = Field(
        description="indices in the model, negative ones from its last layer, or every layer with a sliding window"
    )
    key: AnyKVFormat
    value: AnyKVFormat

    def covers(self, layer: int, count: int, *, sliding: bool) -> bool:
        """Whether these are the formats of ``layer`` of ``count``."""
        if isinstance(self.layers, str):
            return sliding
        return layer in self.layers or layer - count in self.layers


class FormatQuantization(Strict):
    """Keys and values in the formats of an engine's KV cache; they are judged here, not run."""

    method: Literal["format"]
    key: AnyKVFormat
    value: AnyKVFormat
    layers: tuple[LayerFormats, ...] = Field(
        (), description="layers held otherwise; the first entry that names one counts"
    )
    residual_tokens: int = Field(0, ge=0, le=32768, description="newest tokens held in 16 bits")

    @property
    def formats(self) -> list[KVFormat]:
        """Of keys and values, the usual ones first."""
        return [self.key, self.value, *(form for one in self.layers for form in (one.key, one.value))]

    def of_layer(self, layer: int, count: int, *, sliding: bool) -> tuple[KVFormat, KVFormat]:
        """Formats of keys and values of ``layer`` of a model of ``count`` layers."""
        for entry in self.layers:
            if entry.covers(layer, count, sliding=sliding):
                return entry.key, entry.value
        return self.key, self.value


Quantization = Annotated[
    NoStage | IntegerQuantization | FP8Quantization | FormatQuantization, Field(discriminator="method")
]
