"""8-bit floats with a scale that is fixed, or taken from what is stored.

- ``fixed``: vLLM's and SGLang's ``fp8_e4m3`` and ``fp8_e5m2``: the checkpoint's scales, 1 where it has none.
- ``tensor``: transformers' fp8 cache, whose scale is taken from the prompt and kept (:meth:`Float8.calibrated`).
- ``head``: one scale per KV head; AutoKV's own fp8.
- ``token_head``: vLLM's ``fp8_per_token_head``, a float32 scale beside each head of each token.

On processors vLLM 0.32 does not round: it drops the bits that do not fit (``rounding: truncate``; ``cpu_attn_fp8.hpp``,
and what its own operator stores). Elsewhere the nearest code is stored, ties to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor

Positive = Annotated[float, Field(gt=0)]


class Float8(KVFormat):
    """What both kinds share; values beyond the largest that it holds saturate."""

    largest: ClassVar[float]
    dtype: ClassVar[str]

    scaling: Literal["fixed", "tensor", "head", "token_head"] = "fixed"
    scale: Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        1.0, description="of scaling 'fixed': of all values, or one per KV head; a stored value times it is the value"
    )

    rounding: Literal["nearest", "truncate"] = Field(
        "nearest", description="'truncate' (towards zero) is vLLM's on processors"
    )

    @model_validator(mode="after")
    def _one_kind_of_scale(self) -> Self:
        if self.scaling != "fixed" and self.scale != 1.0:
            raise ValueError(f"scale is given, but scaling '{self.scaling}' takes scales from what is stored")
        return self

    @property
    def group_tokens(self) -> int | None:
        return 1 if self.scaling in ("fixed", "token_head") else None

    def check(self, head_dim: int, heads: int | None = None) -> None:
        super().check(head_dim, heads)
        if isinstance(self.scale, tuple) and heads is not None and len(self.scale) != heads:
            raise ValueError(f"scale has {len(self.scale)} entries, and the layer has {heads} KV heads")

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        self.check(head_dim, heads)
        scales = {"fixed": 0, "tensor": 1, "head": heads, "token_head": tokens * heads}[self.scaling]
        return tokens * heads * head_dim + 4 * scales

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        self.check(x.shape[-1], x.shape[1])
        scale = self._scale(x)
        # vLLM multiplies by the reciprocal where the scale belongs to a token and on processors, and divides elsewhere.
        reciprocal = self.scaling == "token_head" or self.rounding == "truncate"
        scaled = (x * scale.reciprocal() if reciprocal else x / scale).clamp(-self.largest, self.largest)
        stored = scaled.to(getattr(torch, self.dtype))
        if self.rounding == "truncate":
            # The code before is the next towards zero: the sign is the highest bit.
            codes = stored.view(torch.uint8)
            codes = torch.where(stored.float().abs() > scaled.abs(), codes - 1, codes)
            stored = codes.view(stored.dtype)
        return stored.float() * scale

    def calibrated(self, x: Tensor) -> Self:
        if self.per_token:
            return self
        scales = tuple(self._scale(x).amax((0, 2, 3)).tolist())
        return self.model_copy(update={"scaling": "fixed", "scale": scales if self.scaling == "head" else scales[0]})

    def _scale(self, x: Tensor) -> Tensor:
        """The scales of ``x``, of a shape that broadcasts."""
        import torch

        if self.scaling == "fixed":
            scale = torch.tensor(self.scale, dtype=torch.float32, device=x.device)
            return scale.view(1, -1, 1, 1)
        over = {"tensor": (0, 1, 2, 3), "head": (2, 3), "token_head": (3,)}[self.scaling]
        smallest = 1e-6 if self.scaling == "token_head" else torch.finfo(torch.float32).tiny
        return (x.abs().amax(over, keepdim=True) / self.largest).clamp(min=smallest)


class FP8E4M3(Float8):
    """4 bits of exponent and 3 of mantissa, without infinities; up to 448."""

    title: ClassVar[str] = "fp8 (e4m3)"
    engines: ClassVar[tuple[str, ...]] = ("vLLM", "SGLang", "TensorRT-LLM", "transformers", "ONNX Runtime GenAI (CUDA)")
    source: ClassVar[str] = (
        "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/attention/ops/triton_reshape_and_cache_flash.py, "
        "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/cache_utils.py (Fp8QuantizedLayer)"
    )
    largest: ClassVar[float] = 448.0
    dtype: ClassVar[str] = "float8_e4m3fn"
    format: Literal["fp8_e4m3"] = "fp8_e4m3"


class FP8E5M2(Float8):
    """5 bits of exponent and 2 of mantissa; up to 57,344."""

    title: ClassVar[str] = "fp8 (e5m2)"
    engines: ClassVar[tuple[str, ...]] = ("vLLM", "SGLang")
    source: ClassVar[str] = (
        "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/v1/attention/ops/triton_reshape_and_cache_flash.py"
    )
    largest: ClassVar[float] = 57344.0
    dtype: ClassVar[str] = "float8_e5m2"
    format: Literal["fp8_e5m2"] = "fp8_e5m2"
