"""ONNX Runtime GenAI: integers and fp8 with scales of a calibration file, chosen when the model is built."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from autokv.config import AfterPrefill, CompressionConfig, FormatQuantization, Pipeline, Write
from autokv.errors import ConfigError
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.export.options import choice, read_options
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, written
from autokv.formats import FP8E4M3, KVFormat, StaticInt4, StaticInt8
from autokv.models.facts import ModelFacts

TYPES: Final[dict[str, KVFormat]] = {
    "int8_per_tensor": StaticInt8(scaling="tensor"),
    "int8_per_channel": StaticInt8(scaling="channel"),
    "int4_per_tensor": StaticInt4(scaling="tensor"),
    "int4_per_channel": StaticInt4(scaling="channel"),
    "fp8_per_tensor": FP8E4M3(),
}
_TREE: Final = "https://github.com/microsoft/onnxruntime-genai/blob/v0.18.0/src/python/py/models/"
SCALE_FILE: Final = "kv-cache-scales.json"


class ONNXRuntimeGenAI(Target):
    name: ClassVar[str] = "onnxruntime-genai"
    title: ClassVar[str] = "ONNX Runtime GenAI"
    version: ClassVar[str] = "0.18.0"
    source: ClassVar[str] = f"{_TREE}builder.py"
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "int8 and int4 per tensor or channel, fp8 per tensor, with scales from a calibration"
    bytes_counted: ClassVar[str] = "codes; scales belong to the model"
    reasons: ClassVar[Mapping[str, str]] = {
        "write": "it compresses on write with a calibration's scales; without them, each prompt's own stand in",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        yield from (written(form, form, _rule(form, form)) for form in TYPES.values())
        stage = asked.quantization
        if isinstance(stage, FormatQuantization) and _type(stage.key) == _type(stage.value) is not None:
            layers = tuple(
                entry for entry in stage.layers if _type(entry.key) == _type(entry.value) == _type(stage.key)
            )
            yield written(stage.key, stage.value, _rule(stage.key, stage.value), layers=layers)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        formats = formats_of(held.pipeline)
        if formats is None:
            return []
        return [f"kv_cache_quant_type={_type(formats[0])}", f"kv_cache_scale_file={SCALE_FILE}"]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        known = {"kv_cache_quant_type": "type", "kv_cache_scale_file": "scales"}
        given = read_options(arguments, known, target=self.title)
        if given.get("type", [""])[0].lower() == "fp8_per_channel":
            raise ConfigError(
                "AutoKV has no fp8 with a scale per channel",
                field="--engine-args",
                remedy="give kv_cache_quant_type=fp8_per_tensor",
            )
        name = choice(
            given.get("type", ["none"])[0].lower(), ("none", *TYPES), option="kv_cache_quant_type", target=self.title
        )
        if name == "none":
            return CompressionConfig()
        return CompressionConfig(pipeline=written(TYPES[name], TYPES[name], _rule(TYPES[name], TYPES[name])))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        own = self.arguments(held, facts)
        given = f"-m {shlex.quote(model or 'MODEL')}"
        lines = []
        if own:
            quant_type = own[0].partition("=")[2]
            lines += [
                f"python -m onnxruntime_genai.models.builder {given} -o baseline -p fp32 -e cpu",
                f"python -m onnxruntime_genai.models.kv_cache_calibration --model baseline --tokenizer "
                f"{shlex.quote(model or 'MODEL')} --out {SCALE_FILE} --quant-type {quant_type}",
            ]
        scales = self._scales(held, facts)
        if scales is not None:
            lines = []
        extra = f" --extra_options {shlex.join(own)}" if own else ""
        lines.append(f"python -m onnxruntime_genai.models.builder {given} -o onnx-model -p fp32 -e cpu{extra}")
        files = [Artifact("arguments", "onnxruntime-genai-build.sh", "\n".join(lines) + "\n")]
        if scales is not None:
            files.append(Artifact("json", SCALE_FILE, json.dumps(scales) + "\n"))
        return tuple(files)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        formats = formats_of(held)
        if formats is None:
            return
        if device is not None and device.kind not in ("cpu", "cuda"):
            yield refusal("a quantized KV cache is for the CPU and CUDA execution providers", f"{_TREE}README.md")
        if isinstance(formats[0], FP8E4M3) and device is not None and device.kind == "cpu":
            yield refusal("fp8 builds, and then has no kernel on a processor when it is loaded", f"{_TREE}README.md")
        if not _is_calibrated(formats[0]):
            yield warning(
                "ONNX Runtime GenAI needs scales of a calibration; judged with each prompt's own, the loss comes out "
                "too low (int8 per channel on SmolLM2-135M-Instruct: 0.0002 against 0.0025 in the engine)",
                f"{_TREE}README.md",
            )

    @staticmethod
    def _scales(held: CompressionConfig, facts: ModelFacts | None) -> dict[str, Any] | None:
        """The scale file, where the configuration has the scales and the model's layers are known."""
        stage = held.pipeline.quantization
        if facts is None or not isinstance(stage, FormatQuantization) or not _is_calibrated(stage.key):
            return None
        scales: dict[str, list[Any]] = {"k_scales": [], "v_scales": []}
        for layer in range(facts.layers):
            pair = stage.of_layer(layer, facts.layers, sliding=facts.layer_kinds[layer] == "sliding")
            for name, form in zip(scales, pair, strict=True):
                scale = getattr(form, "scale", None)
                flat = [each for head in scale for each in head] if isinstance(scale, tuple) else scale
                scales[name].append(flat)
        return {"scales": scales, "layer_ids": list(range(facts.layers))}


def _type(form: KVFormat) -> str | None:
    """The value of ``kv_cache_quant_type``; None where there is none."""
    if isinstance(form, StaticInt8 | StaticInt4):
        return f"int{form.bits}_per_{form.scaling}"
    one_scale = isinstance(form, FP8E4M3) and isinstance(form.scale, float)
    return "fp8_per_tensor" if one_scale and form == FP8E4M3(scale=getattr(form, "scale", 1.0)) else None


def _is_calibrated(form: KVFormat) -> bool:
    if isinstance(form, FP8E4M3):
        return form.scale != 1.0
    return getattr(form, "scale", None) is not None


def _rule(*forms: KVFormat) -> Write:
    return COMPRESSED if all(form.per_token for form in forms) else AfterPrefill()
