"""TensorRT-LLM: the type of its KV cache, in the YAML of its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from autokv.config import CompressionConfig, Pipeline, Write
from autokv.documents import rendered
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.export.options import choice, read_options
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, written
from autokv.formats import BF16, F16, F32, FP8E4M3, NVFP4, KVFormat
from autokv.models.facts import ModelFacts

DTYPES: Final[dict[str, KVFormat]] = {
    "fp8": FP8E4M3(),
    "nvfp4": NVFP4(),
    "float16": F16(),
    "bfloat16": BF16(),
    "float32": F32(),
}
_OPTION: Final = "kv_cache_config.dtype"
_QUANTIZATION: Final = "https://nvidia.github.io/TensorRT-LLM/1.4.0rc4/features/quantization.html"


class TensorRTLLM(Target):
    name: ClassVar[str] = "tensorrt-llm"
    title: ClassVar[str] = "TensorRT-LLM"
    version: ClassVar[str] = "1.4.0rc4"
    source: ClassVar[str] = "https://nvidia.github.io/TensorRT-LLM/llm-api/reference/KvCacheConfig.html"
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "fp8, nvfp4"
    bytes_counted: ClassVar[str] = "codes and block scales"
    reasons: ClassVar[Mapping[str, str]] = {
        "eviction": "TriAttention, its only eviction, keeps every token of the prompt on top of its budget",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        return (written(form, form, COMPRESSED) for form in DTYPES.values())

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        dtype = self._dtype(held.pipeline)
        return [] if dtype is None else [f"{_OPTION}={dtype}"]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        known = {_OPTION: "dtype", "dtype": "dtype", "--kv-cache-dtype": "dtype"}
        given = read_options(arguments, known, target=self.title)
        dtype = choice(given.get("dtype", ["auto"])[0], ("auto", *DTYPES), option=_OPTION, target=self.title)
        if dtype == "auto":
            return CompressionConfig()
        return CompressionConfig(pipeline=written(DTYPES[dtype], DTYPES[dtype], COMPRESSED))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        options: dict[str, Any] = {"kv_cache_config": {"dtype": self._dtype(held.pipeline) or "auto"}}
        command = f"trtllm-serve {model or 'MODEL'} --extra_llm_api_options tensorrt-llm.yaml\n"
        return (
            Artifact("yaml", "tensorrt-llm.yaml", rendered(options, "yaml").decode()),
            Artifact("arguments", "trtllm-serve.sh", command),
        )

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        dtype = self._dtype(held)
        if device is None or dtype not in ("fp8", "nvfp4"):
            return
        if device.kind != "cuda":
            yield refusal("TensorRT-LLM runs on CUDA only", self.source)
        elif dtype == "nvfp4" and not device.blackwell:
            yield refusal("an nvfp4 KV cache needs a Blackwell GPU", _QUANTIZATION)
        elif dtype == "fp8" and device.capability < 89:
            yield refusal("an fp8 KV cache needs compute capability 8.9", _QUANTIZATION)
        if dtype == "fp8":
            yield warning("without scales in the checkpoint values are stored as they are (scale 1)", _QUANTIZATION)

    @staticmethod
    def _dtype(held: Pipeline) -> str | None:
        formats = formats_of(held)
        return None if formats is None else next(name for name, form in DTYPES.items() if form == formats[0])
