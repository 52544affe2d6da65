"""KV-cache formats as engines have them: one class per format, with its limits, its bytes and a naive reference.

Torch is imported when a tensor is computed, not before.
"""

from __future__ import annotations

from typing import Annotated, Final, get_args

from pydantic import Field

from autokv.formats.base import KVFormat, Rotation
from autokv.formats.float4 import MXFP4, MXFP8, NVFP4, FP4MXBlock16, UltraQuant
from autokv.formats.float8 import FP8E4M3, FP8E5M2
from autokv.formats.integer import MinMaxInteger
from autokv.formats.llama_cpp import IQ4NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, LlamaCppFormat, llama_cpp
from autokv.formats.mlx import MLXAffine
from autokv.formats.openvino import OpenVINOU4, OpenVINOU8
from autokv.formats.per_token_head import Int4PerTokenHead, Int8PerTokenHead
from autokv.formats.plain import BF16, F16, F32
from autokv.formats.static_integer import StaticInt4, StaticInt8
from autokv.formats.transformers_caches import HQQ, Quanto
from autokv.formats.turboquant import TurboQuantKey, TurboQuantValue, turboquant, turboquant_uncompressed_layers

_EachFormat = (
    F32
    | F16
    | BF16
    | FP8E4M3
    | FP8E5M2
    | Q8_0
    | Q5_1
    | Q5_0
    | Q4_1
    | Q4_0
    | IQ4NL
    | Int8PerTokenHead
    | Int4PerTokenHead
    | OpenVINOU8
    | OpenVINOU4
    | StaticInt8
    | StaticInt4
    | MXFP8
    | NVFP4
    | MXFP4
    | FP4MXBlock16
    | UltraQuant
    | TurboQuantKey
    | TurboQuantValue
    | Quanto
    | HQQ
    | MLXAffine
    | MinMaxInteger
)
AnyKVFormat = Annotated[_EachFormat, Field(discriminator="format")]
FORMATS: Final[dict[str, type[KVFormat]]] = {
    each.model_fields["format"].default: each for each in get_args(_EachFormat)
}
"""Every format by its name."""

__all__ = [
    "BF16",
    "F16",
    "F32",
    "FORMATS",
    "FP8E4M3",
    "FP8E5M2",
    "HQQ",
    "IQ4NL",
    "MXFP4",
    "MXFP8",
    "NVFP4",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "AnyKVFormat",
    "FP4MXBlock16",
    "Int4PerTokenHead",
    "Int8PerTokenHead",
    "KVFormat",
    "LlamaCppFormat",
    "MLXAffine",
    "MinMaxInteger",
    "OpenVINOU4",
    "OpenVINOU8",
    "Quanto",
    "Rotation",
    "StaticInt4",
    "StaticInt8",
    "TurboQuantKey",
    "TurboQuantValue",
    "UltraQuant",
    "llama_cpp",
    "turboquant",
    "turboquant_uncompressed_layers",
]
