"""llama.cpp's blocks of 32 channels, each with a float16 scale, rotated before they are stored.

Read from commit 0c1e57098 of 2026: ``quantize_row_*_ref`` and ``dequantize_row_*`` in ``ggml-quants.c`` for the blocks,
``llama_kv_cache`` in ``llama-kv-cache.cpp`` for the rotation, ``ggml_compute_forward_flash_attn_ext`` in
``ggml-cpu/ops.cpp`` for the queries. Its vectorized kernels break ties of q8_0 to even.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field, field_validator

from autokv.formats.arithmetic import blocks, hadamard, half, power_of_two_in, reciprocal, round_half_away
from autokv.formats.base import KVFormat, Rotation

if TYPE_CHECKING:
    from torch import Tensor

BLOCK: Final = 32
SMALLEST_ROTATION: Final = 64
"""Heads whose width is no multiple of this are not rotated."""


class LlamaCppFormat(KVFormat):
    """Blocks of 32 channels.

    ``rotation`` is on unless ``LLAMA_ATTN_ROT_DISABLE=1``. llama.cpp rotates heads whose width is a multiple of 64 and
    leaves others as they are: keys by the largest power of two that divides the head, values by 64 channels at a time.
    """

    engines: ClassVar[tuple[str, ...]] = ("llama.cpp",)
    source: ClassVar[str] = (
        "https://github.com/ggml-org/llama.cpp/blob/0c1e57098/ggml/src/ggml-quants.c, "
        "https://github.com/ggml-org/llama.cpp/blob/0c1e57098/src/llama-kv-cache.cpp"
    )
    width_multiple: ClassVar[int] = BLOCK
    block_bytes: ClassVar[int]

    rotation: Rotation = "hadamard"
    rotation_channels: int | None = Field(
        None,
        ge=SMALLEST_ROTATION,
        description="channels that one Hadamard matrix mixes, a power of two; null: the largest that divides the head",
    )

    @field_validator("rotation_channels")
    @classmethod
    def _a_power_of_two(cls, channels: int | None) -> int | None:
        if channels is not None and channels != power_of_two_in(channels):
            raise ValueError("it should be a power of two")
        return channels

    def rotated_channels(self, head_dim: int) -> int:
        """Channels that one matrix mixes; 1 where nothing is rotated."""
        if self.rotation == "none" or head_dim % SMALLEST_ROTATION:
            return 1
        return self.rotation_channels or power_of_two_in(head_dim)

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if head_dim % self.rotated_channels(head_dim):
            raise ValueError(f"rotation_channels {self.rotation_channels} does not divide heads of {head_dim} channels")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        return tokens * heads * (head_dim // BLOCK) * self.block_bytes

    def round_trip(self, x: Tensor) -> Tensor:
        return self._in_its_basis(x, self._round_trip)

    def query_round_trip(self, q: Tensor) -> Tensor:
        """Attention on processors, and by CUDA's vector kernels, multiplies quantized keys with queries in q8_0.

        With q4_1 and q5_1 it is q8_1, which has the same codes and scale.
        """
        return self._in_its_basis(q, _q8_0)

    def _in_its_basis(self, x: Tensor, each: Callable[[Tensor], Tensor]) -> Tensor:
        """``each`` of the blocks of ``x`` in the rotated basis, and back."""
        self.check(x.shape[-1])
        channels = self.rotated_channels(x.shape[-1])
        rotated = hadamard(x, channels) if channels > 1 else x
        read = each(blocks(rotated, BLOCK)).reshape(x.shape)
        return hadamard(read, channels) if channels > 1 else read

    @abstractmethod
    def _round_trip(self, block: Tensor) -> Tensor:
        """What is read of ``[..., 32]``."""


def _largest(block: Tensor) -> Tensor:
    """The first value of the largest magnitude, with its sign, ``[..., 1]``."""
    return block.gather(-1, block.abs().argmax(-1, keepdim=True))


def _q8_0(block: Tensor) -> Tensor:
    scale = block.abs().amax(-1, keepdim=True) / 127
    return round_half_away(block * reciprocal(scale)) * half(scale)


class Q8_0(LlamaCppFormat):  # noqa: N801 - ggml's name
    """8-bit symmetric: one scale, the largest magnitude over 127."""

    title: ClassVar[str] = "llama.cpp q8_0"
    engines: ClassVar[tuple[str, ...]] = ("llama.cpp", "Ollama")
    block_bytes: ClassVar[int] = 34
    format: Literal["q8_0"] = "q8_0"

    def _round_trip(self, block: Tensor) -> Tensor:
        return _q8_0(block)


class _Signed(LlamaCppFormat):
    """Codes around zero, of which the lowest is the value of the largest magnitude."""

    levels: ClassVar[int]

    def _round_trip(self, block: Tensor) -> Tensor:
        zero = self.levels // 2
        scale = _largest(block) / -zero
        codes = (block * reciprocal(scale) + (zero + 0.5)).trunc().clamp(max=self.levels - 1)
        return (codes - zero) * half(scale)


class Q4_0(_Signed):  # noqa: N801
    """4-bit: one scale, whose sign lets the value of the largest magnitude be -8."""

    title: ClassVar[str] = "llama.cpp q4_0"
    engines: ClassVar[tuple[str, ...]] = ("llama.cpp", "Ollama")
    block_bytes: ClassVar[int] = 18
    levels: ClassVar[int] = 16
    format: Literal["q4_0"] = "q4_0"


class Q5_0(_Signed):  # noqa: N801
    """5-bit: as q4_0, to -16."""

    title: ClassVar[str] = "llama.cpp q5_0"
    block_bytes: ClassVar[int] = 22
    levels: ClassVar[int] = 32
    format: Literal["q5_0"] = "q5_0"


class _MinMax(LlamaCppFormat):
    """Codes from the smallest value of the block, which is kept too."""

    levels: ClassVar[int]

    def _round_trip(self, block: Tensor) -> Tensor:
        low, high = block.amin(-1, keepdim=True), block.amax(-1, keepdim=True)
        scale = (high - low) / (self.levels - 1)
        codes = ((block - low) * reciprocal(scale) + 0.5).trunc().clamp(max=self.levels - 1)
        return codes * half(scale) + half(low)


class Q4_1(_MinMax):  # noqa: N801
    """4-bit: one scale and one minimum."""

    title: ClassVar[str] = "llama.cpp q4_1"
    block_bytes: ClassVar[int] = 20
    levels: ClassVar[int] = 16
    format: Literal["q4_1"] = "q4_1"


class Q5_1(_MinMax):  # noqa: N801
    """5-bit: one scale and one minimum."""

    title: ClassVar[str] = "llama.cpp q5_1"
    block_bytes: ClassVar[int] = 24
    levels: ClassVar[int] = 32
    format: Literal["q5_1"] = "q5_1"


class IQ4NL(LlamaCppFormat):
    """4-bit codes of a table that is denser around zero; the scale minimizes the error weighted by the squares."""

    title: ClassVar[str] = "llama.cpp iq4_nl"
    block_bytes: ClassVar[int] = 18
    table: ClassVar[tuple[int, ...]] = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
    format: Literal["iq4_nl"] = "iq4_nl"

    def _round_trip(self, block: Tensor) -> Tensor:
        import torch

        table = torch.tensor(self.table, dtype=torch.float32, device=block.device)
        first_scale = _largest(block) / self.table[0]
        levels = table[torch.bucketize(block * reciprocal(first_scale), (table[1:] + table[:-1]) / 2, right=True)]
        weights = block * block
        scale = (weights * levels * block).sum(-1, keepdim=True) * reciprocal(
            (weights * levels * levels).sum(-1, keepdim=True)
        )
        negligible = block.abs().amax(-1, keepdim=True) < 1e-15
        return levels * half(scale.masked_fill(negligible, 0))


LLAMA_CPP: Final[dict[str, type[LlamaCppFormat]]] = {
    "q8_0": Q8_0,
    "q4_0": Q4_0,
    "q4_1": Q4_1,
    "q5_0": Q5_0,
    "q5_1": Q5_1,
    "iq4_nl": IQ4NL,
}


def llama_cpp(cache_type: str, side: Literal["key", "value"], *, rotated: bool = True) -> LlamaCppFormat:
    """What ``--cache-type-k`` or ``--cache-type-v`` ``cache_type`` stores, with the rotation of that side.

    ``rotated``: without ``LLAMA_ATTN_ROT_DISABLE=1``.

    Raises:
        KeyError: no such quantized cache type.
    """
    rotation: Rotation = "hadamard" if rotated else "none"
    channels = SMALLEST_ROTATION if rotated and side == "value" else None
    return LLAMA_CPP[cache_type].model_validate({"rotation": rotation, "rotation_channels": channels})
