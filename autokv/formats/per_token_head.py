"""vLLM's integers with a float32 scale beside each head of each token."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from autokv.formats.arithmetic import hadamard, power_of_two_in, round_half_away
from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST_SCALE: Final = 1e-6
_SIGNS_SEED: Final = 0x9E3779B9


class Int8PerTokenHead(KVFormat):
    """8-bit symmetric; the scale is the largest magnitude of the head over 127."""

    title: ClassVar[str] = "int8 per token and head"
    engines: ClassVar[tuple[str, ...]] = ("vLLM",)
    source: ClassVar[str] = (
        "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/attention/ops/triton_reshape_and_cache_flash.py"
    )
    format: Literal["int8_per_token_head"] = "int8_per_token_head"

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        return tokens * heads * (head_dim + 4)

    def round_trip(self, x: Tensor) -> Tensor:
        scale = (x.abs().amax(-1, keepdim=True) / 127).clamp(min=_SMALLEST_SCALE)
        return round_half_away(x * scale.reciprocal()).clamp(-128, 127) * scale


class Int4PerTokenHead(KVFormat):
    """4-bit min-max integers in a randomized Hadamard basis.

    The signs of the channels come from a fixed seed. The zero point is an integer, and its 4 bits take the place of
    the lowest 4 bits of the scale. The basis has matrices of the largest power of two that divides the head.
    """

    title: ClassVar[str] = "int4 per token and head"
    engines: ClassVar[tuple[str, ...]] = ("vLLM",)
    source: ClassVar[str] = (
        "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/attention/ops/int4_per_token_head.py"
    )
    width_multiple: ClassVar[int] = 2
    format: Literal["int4_per_token_head"] = "int4_per_token_head"

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        return tokens * heads * (head_dim // 2 + 4)

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        self.check(x.shape[-1])
        size = power_of_two_in(x.shape[-1])
        signs = _signs(size).repeat(x.shape[-1] // size).to(x.device)
        # vLLM's transform is larger by √size, and its scales with it.
        rotated = hadamard(x * signs, size) * math.sqrt(size)
        low, high = rotated.amin(-1, keepdim=True), rotated.amax(-1, keepdim=True)
        scale = ((high - low) / 15).clamp(min=_SMALLEST_SCALE)
        zero = round_half_away(-low / scale).clamp(0, 15)
        codes = round_half_away(rotated * scale.reciprocal() + zero).clamp(0, 15)
        stored_scale = (scale.contiguous().view(torch.int32) & -16).view(torch.float32)
        return hadamard((codes - zero) * stored_scale, size) / math.sqrt(size) * signs


@lru_cache(maxsize=8)
def _signs(size: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(_SIGNS_SEED)
    return torch.bernoulli(torch.full((size,), 0.5), generator=generator).mul(2).sub(1)
