"""transformers: its quantized cache, with quanto, HQQ or fp8, as ``cache_config`` of ``generate``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from autokv.config import AfterPrefill, CompressionConfig, FormatQuantization, Pipeline, Write
from autokv.errors import ConfigError
from autokv.export.fidelity import form_of
from autokv.export.findings import Device, Finding, refusal
from autokv.export.options import choice
from autokv.export.target import Artifact, Target, formats_of, written
from autokv.formats import FP8E4M3, HQQ, KVFormat, Quanto
from autokv.models.facts import ModelFacts

BITS: Final[dict[str, tuple[int, ...]]] = {"quanto": (2, 4), "hqq": (1, 2, 4, 8)}
AXES: Final[dict[str, tuple[int, ...]]] = {"quanto": (0, -1), "hqq": (0, 1)}
AXIS_FIELDS: Final = ("axis_key", "axis_value")
USUAL: Final = {"nbits": 4, "axis_key": 0, "axis_value": 0, "q_group_size": 64, "residual_length": 128}
WHOLE_PROMPT: Final = AfterPrefill(prompt_window=False)
_SOURCE: Final = "https://github.com/huggingface/transformers/blob/v5.23.0/src/transformers/cache_utils.py"


class Transformers(Target):
    name: ClassVar[str] = "transformers"
    title: ClassVar[str] = "transformers"
    version: ClassVar[str] = "5.23.0"
    source: ClassVar[str] = _SOURCE
    write: ClassVar[Write] = WHOLE_PROMPT
    holds: ClassVar[str] = "quanto (2 and 4 bits), HQQ (1, 2, 4, 8), fp8 with a scale of the prompt; a residual window"
    bytes_counted: ClassVar[str] = "codes, and a 16-bit scale and shift per group; the residual window in 16 bits"
    reasons: ClassVar[Mapping[str, str]] = {
        "write": "transformers compresses the whole prompt once it is read; new tokens fill its window first",
        "quantization.residual_tokens": "of transformers' backends, fp8 has no residual window",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        stage, rule = asked.quantization, WHOLE_PROMPT
        window = getattr(stage, "residual_tokens", 0)
        forms = [found[0] for side in ("key", "value") if (found := form_of(stage, side)) is not None]
        sizes = dict.fromkeys(getattr(form, "group_size", None) or USUAL["q_group_size"] for form in forms)
        for backend, bits_of in BITS.items():
            for bits in bits_of:
                for size in sizes:
                    for key_axis in AXES[backend]:
                        for value_axis in AXES[backend]:
                            yield written(
                                _form(backend, bits, key_axis, size),
                                _form(backend, bits, value_axis, size),
                                rule,
                                residual_tokens=window,
                            )
        yield written(FP8E4M3(scaling="tensor"), FP8E4M3(scaling="tensor"), rule)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        options = self._options(held.pipeline)
        return [] if options is None else [json.dumps(options)]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        text = " ".join(arguments).strip()
        if not text:
            return CompressionConfig()
        try:
            options = json.loads(text)
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise ConfigError(
                "transformers' cache_config is not a JSON object",
                field="--engine-args",
                remedy='give it as {"backend": "quanto", "nbits": 4}',
            )
        backend = choice(
            str(options.get("backend", "quanto")).lower(), (*BITS, "fp8"), option="backend", target=self.title
        )
        _check_keys(options, backend)
        if backend == "fp8":
            return CompressionConfig(
                pipeline=written(FP8E4M3(scaling="tensor"), FP8E4M3(scaling="tensor"), WHOLE_PROMPT)
            )
        given = {**USUAL, **options}
        allowed = {"nbits": BITS[backend], "axis_key": AXES[backend], "axis_value": AXES[backend]}
        for name, known in allowed.items():
            if given[name] not in known:
                raise ConfigError(
                    f"transformers takes no {given[name]!r} for {name} with {backend}",
                    field="--engine-args",
                    remedy=f"known are {', '.join(map(str, known))}",
                )
        for name, least in (("q_group_size", 2), ("residual_length", 0)):
            if type(given[name]) is not int or not least <= given[name] <= 32768:
                raise ConfigError(
                    f"transformers takes no {given[name]!r} for {name}",
                    field="--engine-args",
                    remedy=f"give a whole number from {least}",
                )
        key, value = (_form(backend, given["nbits"], given[axis], given["q_group_size"]) for axis in AXIS_FIELDS)
        pipeline = written(key, value, WHOLE_PROMPT, residual_tokens=given["residual_length"])
        return CompressionConfig(pipeline=pipeline)

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        options = self._options(held.pipeline)
        cache = "" if options is None else f",\n    cache_implementation='quantized',\n    cache_config={options!r}"
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"name = {model or 'MODEL'!r}\n"
            "tokenizer = AutoTokenizer.from_pretrained(name)\n"
            "model = AutoModelForCausalLM.from_pretrained(name, dtype='auto')\n"
            "inputs = tokenizer('Why is the sky blue?', return_tensors='pt')\n"
            f"output = model.generate(\n    **inputs,\n    max_new_tokens=64{cache},\n)\n"
            "print(tokenizer.decode(output[0], skip_special_tokens=True))\n"
        )
        settings = {} if options is None else {"cache_implementation": "quantized", "cache_config": options}
        return (
            Artifact("python", "transformers_generate.py", code),
            Artifact("json", "generation_config.json", json.dumps(settings, indent=2) + "\n"),
        )

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        stage = held.quantization
        if not isinstance(stage, FormatQuantization):
            return
        if facts is not None and facts.sliding_window:
            yield refusal("transformers' quantized cache takes models with full attention only", _SOURCE)

    @staticmethod
    def _options(held: Pipeline) -> dict[str, Any] | None:
        formats, stage = formats_of(held), held.quantization
        if formats is None or not isinstance(stage, FormatQuantization):
            return None
        key, value = formats
        if not isinstance(key, Quanto | HQQ) or not isinstance(value, Quanto | HQQ):
            return {"backend": "fp8"}
        return {
            "backend": key.format,
            "nbits": key.bits,
            "axis_key": key.axis,
            "axis_value": value.axis,
            "q_group_size": key.group_size,
            "residual_length": stage.residual_tokens,
        }


def _form(backend: str, bits: int, axis: int, group_size: int) -> KVFormat:
    kind = Quanto if backend == "quanto" else HQQ
    return kind.model_validate({"bits": bits, "axis": axis, "group_size": group_size})


def _check_keys(options: dict[str, Any], backend: str) -> None:
    known = ("backend",) if backend == "fp8" else ("backend", *USUAL)
    for name in options:
        choice(name, known, option=f"cache_config of {backend}", target="transformers")
