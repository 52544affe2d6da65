"""4-bit floats (e2m1: 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives) in blocks, and e4m3 in blocks.

A block's scale is a power of two in one byte (e8m0), or an e4m3 number. The engines differ in how they choose it, and
in where a value between two codes goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self

from pydantic import Field

from autokv.formats.arithmetic import blocks, hadamard, power_of_two_in, reciprocal
from autokv.formats.base import KVFormat, Rotation

if TYPE_CHECKING:
    from torch import Tensor

E2M1: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_E4M3_MAX: Final = 448.0
Tie = Literal["even", "away", "down"]


def e2m1(x: Tensor, tie: Tie) -> Tensor:
    """The nearest e2m1 numbers, saturating; ``tie``: to the even code, away from zero, or towards minus infinity."""
    import torch

    levels = torch.tensor(E2M1, device=x.device)
    between, size = (levels[1:] + levels[:-1]) / 2, x.abs().contiguous()
    above = torch.bucketize(size, between, right=True)
    if tie == "even":
        below = torch.bucketize(size, between, right=False)
        above = torch.where(above % 2 == 1, below, above)
    elif tie == "down":
        above = torch.where(x > 0, torch.bucketize(size, between, right=False), above)
    return levels[above].copysign(x)


def _e4m3(x: Tensor) -> Tensor:
    import torch

    return x.clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn).float()


class BlockFloat(KVFormat):
    """Blocks of channels with one byte of scale each."""

    block: ClassVar[int]
    bits: ClassVar[int] = 4

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim)
        return tokens * heads * (head_dim * self.bits // 8 + head_dim // self.block)

    def round_trip(self, x: Tensor) -> Tensor:
        self.check(x.shape[-1])
        return self._round_trip(blocks(x, self.block)).reshape(x.shape)

    def _round_trip(self, block: Tensor) -> Tensor:
        """What is read of ``[..., block]``."""
        raise NotImplementedError


class NVFP4(BlockFloat):
    """Blocks of 16 with an e4m3 scale, under one float32 scale of the layer.

    ``global_scale`` comes from the checkpoint and is 1 where it has none; null takes it from what is stored, as a
    calibration would: the largest magnitude over 6·448. ``scale_search``: the block's scale makes its largest
    magnitude 6, or 6 or 4, whichever leaves the smaller squared error (vLLM's ``nvfp4_4over6``).
    """

    title: ClassVar[str] = "nvfp4"
    engines: ClassVar[tuple[str, ...]] = ("vLLM", "SGLang", "TensorRT-LLM")
    source: ClassVar[str] = (
        "https://github.com/vllm-project/vllm/blob/5d11149b98b0/csrc/nvfp4_kv_cache_kernels.cu; its reciprocals are "
        "approximate"
    )
    width_multiple: ClassVar[int] = 16
    block: ClassVar[int] = 16
    format: Literal["nvfp4"] = "nvfp4"

    global_scale: Annotated[float, Field(gt=0)] | None = 1.0
    scale_search: Literal["largest", "four_over_six"] = "largest"

    @property
    def group_tokens(self) -> int | None:
        return None if self.global_scale is None else 1

    def calibrated(self, x: Tensor) -> Self:
        return self.model_copy(update={"global_scale": self._global_scale(x)}) if self.global_scale is None else self

    def _global_scale(self, x: Tensor) -> float:
        if self.global_scale is not None:
            return self.global_scale
        return float(x.abs().amax()) / (E2M1[-1] * _E4M3_MAX) or 1.0

    def _round_trip(self, block: Tensor) -> Tensor:
        import torch

        scale_of_layer = self._global_scale(block)
        read = self._at(block, scale_of_layer, 6.0)
        if self.scale_search == "largest":
            return read
        read_at_four = self._at(block, scale_of_layer, 4.0)
        errors = [(each - block).square().sum(-1, keepdim=True) for each in (read_at_four, read)]
        return torch.where(errors[0] < errors[1], read_at_four, read)

    @staticmethod
    def _at(block: Tensor, scale_of_layer: float, target: float) -> Tensor:
        scale = _e4m3(block.abs().amax(-1, keepdim=True) / target / scale_of_layer) * scale_of_layer
        return e2m1(block * reciprocal(scale), "even") * scale


class MXFP4(BlockFloat):
    """Blocks of 32 with a power of two, the largest magnitude's over 4, so that the largest may saturate."""

    title: ClassVar[str] = "mxfp4 (OCP)"
    engines: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = "OCP Microscaling Formats (MX) Specification 1.0, 2023, section 6.3"
    width_multiple: ClassVar[int] = 32
    block: ClassVar[int] = 32
    format: Literal["mxfp4"] = "mxfp4"

    def _round_trip(self, block: Tensor) -> Tensor:
        import torch

        exponent = torch.frexp(block.abs().amax(-1, keepdim=True)).exponent - 1
        scale = torch.exp2((exponent - 2).clamp(min=-127).float())
        return e2m1(block / scale, "even") * scale


class FP4MXBlock16(BlockFloat):
    """Blocks of 16 with the smallest power of two by which none of them exceeds 6."""

    title: ClassVar[str] = "fp4 in blocks of 16"
    engines: ClassVar[tuple[str, ...]] = ("SGLang",)
    source: ClassVar[str] = (
        "https://github.com/sgl-project/sglang/blob/v0.5.23/python/sglang/srt/layers/quantization/kvfp4_tensor.py"
    )
    width_multiple: ClassVar[int] = 16
    block: ClassVar[int] = 16
    format: Literal["fp4_mx_block16"] = "fp4_mx_block16"

    def _round_trip(self, block: Tensor) -> Tensor:
        import torch

        scale = torch.exp2((block.abs().amax(-1, keepdim=True) / 6).clamp(min=1e-10).log2().ceil())
        return e2m1(block / scale, "away") * scale


class MXFP8(BlockFloat):
    """e4m3 in blocks of 32 with the smallest power of two by which none of them exceeds 448."""

    title: ClassVar[str] = "mxfp8"
    engines: ClassVar[tuple[str, ...]] = ("SGLang",)
    source: ClassVar[str] = (
        "https://github.com/sgl-project/sglang/blob/v0.5.23/python/sglang/kernels/ops/kvcache/mxfp8_quant_store_kv.py"
    )
    width_multiple: ClassVar[int] = 32
    block: ClassVar[int] = 32
    bits: ClassVar[int] = 8
    format: Literal["mxfp8"] = "mxfp8"

    def _round_trip(self, block: Tensor) -> Tensor:
        import torch

        largest = block.abs().amax(-1, keepdim=True).clamp(min=1e-30)
        scale = torch.exp2((largest / _E4M3_MAX).log2().ceil().clamp(-127, 127))
        return _e4m3(block / scale) * scale


class UltraQuant(BlockFloat):
    """Blocks of 32 with the power of two nearest to 0.156 of the largest magnitude, which may saturate.

    vLLM's ``ultraquant_4bit`` rotates keys by one Hadamard matrix of the whole head, and values not at all.
    """

    title: ClassVar[str] = "UltraQuant 4-bit"
    engines: ClassVar[tuple[str, ...]] = ("vLLM (ROCm)",)
    source: ClassVar[str] = (
        "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/attention/ops/ultraquant/reference.py"
    )
    width_multiple: ClassVar[int] = 32
    block: ClassVar[int] = 32
    share: ClassVar[float] = 0.156
    format: Literal["ultraquant_4bit"] = "ultraquant_4bit"

    rotation: Rotation = "none"

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if self.rotation == "hadamard" and head_dim != power_of_two_in(head_dim):
            raise ValueError(f"ultraquant_4bit rotates heads of a power of two of channels; these have {head_dim}")

    def round_trip(self, x: Tensor) -> Tensor:
        self.check(x.shape[-1])
        if self.rotation == "none":
            return super().round_trip(x)
        return hadamard(super().round_trip(hadamard(x, x.shape[-1])), x.shape[-1])

    def query_round_trip(self, q: Tensor) -> Tensor:
        """Queries are rotated as keys are, and are e4m3 with scale 1."""
        if self.rotation == "none":
            return _e4m3(q)
        self.check(q.shape[-1])
        return hadamard(_e4m3(hadamard(q, q.shape[-1])), q.shape[-1])

    def _round_trip(self, block: Tensor) -> Tensor:
        import torch

        wanted = block.abs().amax(-1, keepdim=True) * self.share
        scale = torch.exp2((wanted.log2() + 0.5).floor().clamp(-126, 127)).masked_fill(wanted == 0, 0)
        return e2m1(block * reciprocal(scale), "down") * scale
