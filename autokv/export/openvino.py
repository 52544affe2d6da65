"""OpenVINO GenAI: 8-bit and 4-bit unsigned integers by token, keys and values apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal

from autokv.config import CompressionConfig, Pipeline, Write
from autokv.errors import ConfigError
from autokv.export.fidelity import form_of
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.export.options import choice, read_options, whole
from autokv.export.selection import PLAIN, nearest_form
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, written
from autokv.formats import BF16, F16, F32, KVFormat, OpenVINOU4, OpenVINOU8
from autokv.models.facts import ModelFacts

SIDES: Final[tuple[Literal["key", "value"], ...]] = ("key", "value")
PLAIN_TYPES: Final[dict[str, KVFormat]] = {"f16": F16(), "bf16": BF16(), "f32": F32()}
INTEGERS: Final[dict[str, type[OpenVINOU8] | type[OpenVINOU4]]] = {"u8": OpenVINOU8, "u4": OpenVINOU4}
GROUP_SIZES: Final = (None, 16, 32, 64, 128)
_OPTIONS: Final = {
    "KV_CACHE_PRECISION": "both",
    "KEY_CACHE_PRECISION": "key",
    "VALUE_CACHE_PRECISION": "value",
    "KEY_CACHE_GROUP_SIZE": "key_group",
    "VALUE_CACHE_GROUP_SIZE": "value_group",
    "KEY_CACHE_QUANT_MODE": "mode",
}
_DOCS: Final = "https://docs.openvino.ai/2026/openvino-workflow-generative/inference-with-genai.html"


class OpenVINO(Target):
    name: ClassVar[str] = "openvino"
    title: ClassVar[str] = "OpenVINO GenAI"
    version: ClassVar[str] = "2026.4.1"
    source: ClassVar[str] = (
        "https://github.com/openvinotoolkit/openvino.genai/blob/2026.4.1.0/src/cpp/include/openvino/genai/"
        "cache_eviction.hpp"
    )
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "u8 and u4 by token with groups of channels, keys and values apart"
    bytes_counted: ClassVar[str] = "codes, and a float32 scale and zero point per group"
    reasons: ClassVar[Mapping[str, str]] = {
        "eviction": "OpenVINO evicts whole blocks to an absolute number of tokens while it generates, which AutoKV "
        "cannot judge yet",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        sides = []
        for side in SIDES:
            own = form_of(asked.quantization, side)
            if own is None:
                return
            sizes = dict.fromkeys([*GROUP_SIZES, getattr(own[0], "group_size", None)])
            choices: list[KVFormat] = [
                integer(group_size=size)
                for integer in INTEGERS.values()
                for size in sizes
                if size is None or (size >= 2 and size % 2 == 0)
            ]
            near = nearest_form(own[0], [*choices, *PLAIN_TYPES.values()], facts)
            if near is not None:
                sides.append(near)
        if len(sides) == len(SIDES):
            yield written(sides[0], sides[1], COMPRESSED)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        formats = formats_of(held.pipeline)
        if formats is None:
            return ["KV_CACHE_PRECISION=f16"]
        arguments = []
        for side, form in zip(SIDES, formats, strict=True):
            arguments.append(f"{side.upper()}_CACHE_PRECISION={form.format.removeprefix('openvino_')}")
            if getattr(form, "group_size", None) is not None:
                arguments.append(f"{side.upper()}_CACHE_GROUP_SIZE={getattr(form, 'group_size', None)}")
        return arguments if isinstance(formats[0], PLAIN) else [*arguments, "KEY_CACHE_QUANT_MODE=BY_TOKEN"]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        given = read_options(arguments, _OPTIONS, target=self.title)
        modes = ("BY_CHANNEL", "BY_TOKEN")
        mode = choice(given.get("mode", modes)[0], modes, option="KEY_CACHE_QUANT_MODE", target=self.title)
        forms: list[KVFormat] = []
        for side in SIDES:
            option = f"{side.upper()}_CACHE_PRECISION"
            usual = given.get("both", ["u8"])
            precision = choice(given.get(side, usual)[0], (*INTEGERS, *PLAIN_TYPES), option=option, target=self.title)
            group = given.get(f"{side}_group", ["0"])[0]
            size = whole(group, option=f"{side.upper()}_CACHE_GROUP_SIZE", target=self.title)
            if size % 2:
                raise ConfigError(f"group size {size} is odd", field="--engine-args", remedy="give an even number")
            forms.append(
                PLAIN_TYPES[precision] if precision in PLAIN_TYPES else INTEGERS[precision](group_size=size or None)
            )
        if mode != "BY_TOKEN" and not isinstance(forms[0], PLAIN):
            raise ConfigError(
                "OpenVINO GenAI holds keys by channel unless it is told otherwise, and quantizes a block of them anew "
                "while it fills, which AutoKV does not judge",
                field="--engine-args",
                remedy="give KEY_CACHE_QUANT_MODE=BY_TOKEN",
            )
        return CompressionConfig(pipeline=written(forms[0], forms[1], COMPRESSED))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        pairs = [argument.split("=") for argument in self.arguments(held, facts)]
        settings = ", ".join(f"{name}={int(value) if value.isdecimal() else repr(value)}" for name, value in pairs)
        code = (
            f"import openvino_genai\n\npipeline = openvino_genai.LLMPipeline({model or 'MODEL'!r}, 'CPU', {settings})\n"
        )
        environment = "".join(f"{name}={value}\n" for name, value in pairs)
        return Artifact("python", "openvino_pipeline.py", code), Artifact("environment", "openvino.props", environment)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        formats = formats_of(held)
        if formats is None:
            yield warning("OpenVINO compresses to u8 on processors unless KV_CACHE_PRECISION says f16 or f32", _DOCS)
        elif device is not None and device.kind not in ("cpu",):
            yield refusal("these precisions are of OpenVINO's processor plugin", _DOCS)
