"""SGLang: KV-cache types by name, keys and values together."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from autokv.config import CompressionConfig, FormatQuantization, OnWrite, Pipeline, Write
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.export.options import choice, read_options, whole
from autokv.export.scaled_checkpoint import for_sglang
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, own_chunk_exact, written
from autokv.formats import BF16, FP8E4M3, FP8E5M2, MXFP8, NVFP4, FP4MXBlock16, KVFormat
from autokv.models.facts import ModelFacts

DTYPES: Final[dict[str, KVFormat]] = {
    "fp8_e4m3": FP8E4M3(),
    "fp8_e5m2": FP8E5M2(),
    "mxfp8": MXFP8(),
    "nvfp4": NVFP4(),
    "fp4_mx_block16": FP4MXBlock16(),
    "bfloat16": BF16(),
}
CHUNK_TOKENS: Final = 8192
"""``--chunked-prefill-size`` of GPUs from 60 GB."""
EXACT_CHUNKS: Final = ("triton", "flashinfer")
"""Attention backends whose prefill attends to a chunk's own keys and values before they are compressed."""
SCALE_FILE: Final = "kv-cache-scales.json"
LOADS_SCALES: Final = ("opt", "qwen2")
"""Model types with ``load_kv_cache_scales``."""
_OPTIONS: Final = {
    "--kv-cache-dtype": "dtype",
    "--quantization-param-path": "scales",
    "--attention-backend": "backend",
    "--chunked-prefill-size": "chunk",
}
_BACKENDS: Final = ("fa3", "fa4", "trtllm_mha", *EXACT_CHUNKS)
_TREE: Final = "https://github.com/sgl-project/sglang/blob/v0.5.23/python/sglang/srt/"
_FP8_BACKENDS: Final = "https://docs.sglang.io/advanced_features/attention_backend.html"


class SGLang(Target):
    name: ClassVar[str] = "sglang"
    title: ClassVar[str] = "SGLang"
    version: ClassVar[str] = "0.5.23"
    source: ClassVar[str] = f"{_TREE}arg_groups/fields/model.py"
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "fp8 e4m3 and e5m2, mxfp8, nvfp4, fp4 in blocks of 16"
    bytes_counted: ClassVar[str] = "codes and block scales"
    reasons: ClassVar[Mapping[str, str]] = {
        "quantization.layers": "SGLang holds every layer in one format",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        stage = asked.quantization
        rules: list[Write] = [COMPRESSED]
        if isinstance(asked.write, OnWrite) and asked.write.own_chunk == "exact":
            rules.append(own_chunk_exact(asked.write, CHUNK_TOKENS))
        forms = list(DTYPES.values())
        if isinstance(stage, FormatQuantization) and stage.key == stage.value and _one_scale(stage.key):
            forms.append(stage.key)
        for rule in rules:
            yield from (written(form, form, rule) for form in forms)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        formats = formats_of(held.pipeline)
        if formats is None:
            return []
        arguments = ["--kv-cache-dtype", self._dtype(formats[0])]
        if _one_scale(formats[0]) and formats[0] != FP8E4M3():
            arguments += ["--quantization-param-path", SCALE_FILE]
        write = held.pipeline.write
        if isinstance(write, OnWrite) and write.own_chunk == "exact":
            arguments += ["--attention-backend", "triton", "--chunked-prefill-size", str(write.chunk_tokens)]
        return arguments

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        given = read_options(arguments, _OPTIONS, target=self.title)
        names = ("auto", *DTYPES, "bf16")
        dtype = choice(given.get("dtype", ["auto"])[0], names, option="--kv-cache-dtype", target=self.title)
        backend = choice(given.get("backend", ["fa3"])[0], _BACKENDS, option="--attention-backend", target=self.title)
        chunk = whole(given.get("chunk", [str(CHUNK_TOKENS)])[0], option="chunk", target=self.title, least=1)
        if dtype == "auto":
            return CompressionConfig()
        form = DTYPES["bfloat16" if dtype == "bf16" else dtype]
        rule = own_chunk_exact(COMPRESSED, chunk) if backend in EXACT_CHUNKS else COMPRESSED
        return CompressionConfig(pipeline=written(form, form, rule))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        command = ["python", "-m", "sglang.launch_server", "--model-path", model or "MODEL"]
        started = Artifact("arguments", "sglang-serve.sh", shlex.join([*command, *self.arguments(held, facts)]) + "\n")
        return started, *for_sglang(held, facts, SCALE_FILE)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        if backend is not None:
            choice(backend, _BACKENDS, option="--backend", target=self.title)
        formats = formats_of(held)
        if formats is None:
            return
        dtype, has_scale = self._dtype(formats[0]), formats[0] != FP8E4M3()
        if dtype == "fp8_e4m3" and not has_scale:
            yield warning(
                "without --quantization-param-path values are stored as they are (scale 1)",
                f"{_TREE}model_executor/model_runner_components/load_model_utils.py",
            )
        elif dtype == "fp8_e4m3" and facts is not None and facts.model_type not in LOADS_SCALES:
            yield refusal(
                f"a scale file is given, and SGLang does not start: of all models only {' and '.join(LOADS_SCALES)} "
                f"load one, and this is {facts.model_type}",
                "https://github.com/sgl-project/sglang/issues/20705",
            )
        if device is not None:
            yield from self._on_device(dtype, device)
        if backend == "fa4" and dtype.startswith("fp8"):
            yield refusal("the backend has no fp8 KV cache", _FP8_BACKENDS)

    @staticmethod
    def _on_device(dtype: str, device: Device) -> Iterator[Finding]:
        limits = f"{_TREE}arg_groups/kv_cache_hook.py"
        if dtype == "nvfp4" and not (device.kind == "cuda" and device.capability in (100, 120)):
            yield refusal("nvfp4 needs compute capability 10.0 or 12.0; fp4_mx_block16 does not", limits)
        if dtype == "mxfp8" and not device.blackwell:
            yield refusal("mxfp8 needs a Blackwell GPU", limits)
        if dtype == "fp8_e5m2" and device.kind == "cpu":
            yield refusal("SGLang has no fp8_e5m2 on processors", f"{_TREE}mem_cache/kv_cache_dtype.py")
        if dtype == "fp8_e5m2" and device.kind == "rocm":
            yield warning("on ROCm SGLang stores e4m3 for fp8_e5m2", f"{_TREE}mem_cache/kv_cache_dtype.py")

    @staticmethod
    def _dtype(form: KVFormat) -> str:
        return next((name for name, own in DTYPES.items() if own == form), "fp8_e4m3")


def _one_scale(form: KVFormat) -> bool:
    """Whether it is fp8 with one scale, which a layer's keys and values share in SGLang's file."""
    return form == FP8E4M3(scale=form.scale) if isinstance(form, FP8E4M3) and isinstance(form.scale, float) else False
