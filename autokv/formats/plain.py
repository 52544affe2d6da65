"""Values as they are, in one of the usual types."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from autokv.formats.base import KVFormat

if TYPE_CHECKING:
    from torch import Tensor

_EVERY_ENGINE = ("vLLM", "SGLang", "TensorRT-LLM", "llama.cpp", "OpenVINO GenAI", "transformers", "ONNX Runtime GenAI")


class _Plain(KVFormat):
    value_bytes: ClassVar[int] = 2
    dtype: ClassVar[str]

    def nbytes(self, tokens: int, heads: int, head_dim: int) -> int:
        return tokens * heads * head_dim * self.value_bytes

    def round_trip(self, x: Tensor) -> Tensor:
        import torch

        return x.to(getattr(torch, self.dtype)).float()


class F32(_Plain):
    """Single precision."""

    title: ClassVar[str] = "float32"
    engines: ClassVar[tuple[str, ...]] = ("llama.cpp", "OpenVINO GenAI", "vLLM (on processors)")
    source: ClassVar[str] = "IEEE 754-2019, binary32"
    value_bytes: ClassVar[int] = 4
    dtype: ClassVar[str] = "float32"
    format: Literal["f32"] = "f32"


class F16(_Plain):
    """Half precision; beyond 65,504 it is infinite, as in the engines."""

    title: ClassVar[str] = "float16"
    engines: ClassVar[tuple[str, ...]] = _EVERY_ENGINE
    source: ClassVar[str] = "IEEE 754-2019, binary16"
    dtype: ClassVar[str] = "float16"
    format: Literal["f16"] = "f16"


class BF16(_Plain):
    """The upper half of a float32, ties to even."""

    title: ClassVar[str] = "bfloat16"
    engines: ClassVar[tuple[str, ...]] = _EVERY_ENGINE
    source: ClassVar[str] = "https://github.com/ggml-org/llama.cpp/blob/0c1e57098/ggml/src/ggml-impl.h"
    dtype: ClassVar[str] = "bfloat16"
    format: Literal["bf16"] = "bf16"
