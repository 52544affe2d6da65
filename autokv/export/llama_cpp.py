"""llama.cpp and Ollama: block formats, in llama.cpp apart for keys and values."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal

from autokv.config import CompressionConfig, Pipeline, Write
from autokv.errors import ConfigError
from autokv.export.fidelity import form_of
from autokv.export.findings import Device, Finding, warning
from autokv.export.options import choice, read_options
from autokv.export.selection import PLAIN, nearest_form
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, written
from autokv.formats import BF16, F16, F32, KVFormat, LlamaCppFormat, llama_cpp
from autokv.models.facts import ModelFacts

Side = Literal["key", "value"]
SIDES: Final[tuple[Side, Side]] = ("key", "value")
PLAIN_TYPES: Final[dict[str, KVFormat]] = {"f16": F16(), "bf16": BF16(), "f32": F32()}
QUANTIZED: Final = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
CUDA_PAIRS: Final = (("q4_0", "q4_0"), ("q8_0", "q8_0"))
"""Quantized pairs for which a default CUDA build has flash attention."""
_OPTIONS: Final = {
    **dict.fromkeys(("-ctk", "--cache-type-k", "LLAMA_ARG_CACHE_TYPE_K"), "key"),
    **dict.fromkeys(("-ctv", "--cache-type-v", "LLAMA_ARG_CACHE_TYPE_V"), "value"),
    **dict.fromkeys(("-fa", "--flash-attn", "LLAMA_ARG_FLASH_ATTN"), "flash"),
    "LLAMA_ATTN_ROT_DISABLE": "unrotated",
}
_ISSUES: Final = "https://github.com/ggml-org/llama.cpp/issues/"


def cache_type(name: str, side: Side, *, rotated: bool) -> KVFormat:
    """What llama.cpp holds for a cache type."""
    return PLAIN_TYPES[name] if name in PLAIN_TYPES else llama_cpp(name, side, rotated=rotated)


class LlamaCpp(Target):
    name: ClassVar[str] = "llama.cpp"
    title: ClassVar[str] = "llama.cpp"
    version: ClassVar[str] = "0c1e57098"
    source: ClassVar[str] = "https://github.com/ggml-org/llama.cpp/blob/0c1e57098/common/arg.cpp"
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl, keys and values apart, rotated or not"
    bytes_counted: ClassVar[str] = "blocks of 32 channels with their float16 scales"

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        wanted = {side: form_of(asked.quantization, side) for side in SIDES}
        for rotated in (True, False):
            best: list[KVFormat] = []
            for side in SIDES:
                own = wanted[side]
                choices = [cache_type(name, side, rotated=rotated) for name in (*QUANTIZED, *PLAIN_TYPES)]
                if own is not None:
                    choices = [own[0] if _same(own[0], each, facts) else each for each in choices]
                    near = nearest_form(own[0], choices, facts)
                    best += [] if near is None else [near]
            if len(best) == len(SIDES):
                yield written(best[0], best[1], COMPRESSED)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        formats = formats_of(held.pipeline)
        if formats is None:
            return []
        arguments = ["--cache-type-k", formats[0].format, "--cache-type-v", formats[1].format]
        if isinstance(formats[1], LlamaCppFormat):
            arguments += ["--flash-attn", "on"]
        if _is_unrotated(formats):
            arguments.append("LLAMA_ATTN_ROT_DISABLE=1")
        return arguments

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        given = read_options(arguments, _OPTIONS, target=self.title)
        names = (*PLAIN_TYPES, *QUANTIZED)
        types = {
            side: choice(given.get(side, ["f16"])[0], names, option=f"--cache-type-{side[0]}", target=self.title)
            for side in SIDES
        }
        flash = choice(given.get("flash", ["auto"])[0], ("on", "off", "auto"), option="--flash-attn", target=self.title)
        if flash == "off" and types["value"] in QUANTIZED:
            raise ConfigError(
                "llama.cpp takes quantized values with flash attention only",
                field="--engine-args",
                remedy="give --flash-attn on",
            )
        if not {"key", "value"} & given.keys():
            return CompressionConfig()
        rotated = given.get("unrotated", ["0"])[0] == "0"
        key, value = (cache_type(types[side], side, rotated=rotated) for side in SIDES)
        return CompressionConfig(pipeline=written(key, value, COMPRESSED))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        own = self.arguments(held, facts)
        unrotated = own[-1:] == ["LLAMA_ATTN_ROT_DISABLE=1"]
        flags = own[:-1] if unrotated else own
        settings = {"LLAMA_ATTN_ROT_DISABLE": "1"} if unrotated else {}
        environment = dict(settings)
        for flag, value in zip(flags[::2], flags[1::2], strict=True):
            environment[f"LLAMA_ARG_{flag.removeprefix('--').replace('-', '_').upper()}"] = value
        command = [*(f"{name}={value}" for name, value in settings.items()), "llama-server", "--model"]
        started = Artifact("arguments", "llama-server.sh", shlex.join([*command, model or "MODEL.gguf", *flags]) + "\n")
        if not environment:
            return (started,)
        lines = "".join(f"{name}={value}\n" for name, value in environment.items())
        return started, Artifact("environment", "llama-server.env", lines)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        formats = formats_of(held)
        if formats is None:
            return
        pair = (formats[0].format, formats[1].format)
        blocks = [form for form in formats if isinstance(form, LlamaCppFormat)]
        if isinstance(formats[1], LlamaCppFormat):
            yield warning(
                "quantized values need flash attention; where the model or the device has none, llama.cpp does not "
                "start",
                f"{_ISSUES}28524",
            )
        if device is not None and device.kind == "cuda" and blocks and pair not in CUDA_PAIRS:
            yield warning(
                f"a default CUDA build has no flash attention for {pair[0]}/{pair[1]}; build llama.cpp with "
                "-DGGML_CUDA_FA_ALL_QUANTS=ON",
                f"{_ISSUES}28524",
            )
        if facts is not None and any(
            form.rotation != "none" and form.rotated_channels(facts.head_dim) == 1 for form in blocks
        ):
            yield warning(
                f"llama.cpp does not rotate heads of {facts.head_dim} channels, whatever its environment says",
                f"{_ISSUES}21394",
            )


class Ollama(Target):
    """llama.cpp's q8_0 and q4_0 for keys and values alike, set for every model at once."""

    name: ClassVar[str] = "ollama"
    title: ClassVar[str] = "Ollama"
    version: ClassVar[str] = "fb3076099"
    source: ClassVar[str] = "https://github.com/ollama/ollama/blob/fb3076099/envconfig/config.go"
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "q8_0, q4_0"
    bytes_counted: ClassVar[str] = "as llama.cpp"
    types: ClassVar[tuple[str, ...]] = ("f16", "q8_0", "q4_0")
    reasons: ClassVar[Mapping[str, str]] = {
        "quantization.key": "Ollama has q8_0 and q4_0, the same for keys and values",
        "quantization.value": "Ollama has q8_0 and q4_0, the same for keys and values",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        for name in self.types:
            forms = []
            for side in SIDES:
                form, own = cache_type(name, side, rotated=True), form_of(asked.quantization, side)
                forms.append(own[0] if own is not None and _same(own[0], form, facts) else form)
            yield written(forms[0], forms[1], COMPRESSED)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        formats = formats_of(held.pipeline)
        if formats is None:
            return []
        flash = [] if isinstance(formats[1], PLAIN) else ["OLLAMA_FLASH_ATTENTION=1"]
        return [f"OLLAMA_KV_CACHE_TYPE={formats[0].format}", *flash]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        known = {"OLLAMA_KV_CACHE_TYPE": "type", "OLLAMA_FLASH_ATTENTION": "flash"}
        given = read_options(arguments, known, target=self.title)
        if "type" not in given:
            return CompressionConfig()
        name = choice(given["type"][0].lower(), self.types, option="OLLAMA_KV_CACHE_TYPE", target=self.title)
        if given.get("flash", ["1"])[0].lower() in ("0", "false") and name != "f16":
            raise ConfigError(
                "Ollama takes a quantized cache with flash attention only",
                field="--engine-args",
                remedy="give OLLAMA_FLASH_ATTENTION=1",
            )
        key, value = (cache_type(name, side, rotated=True) for side in SIDES)
        return CompressionConfig(pipeline=written(key, value, COMPRESSED))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        own = self.arguments(held, facts) or ["OLLAMA_KV_CACHE_TYPE=f16"]
        return (Artifact("environment", "ollama.env", "".join(f"{each}\n" for each in own)),)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        formats = formats_of(held)
        if formats is None or isinstance(formats[1], PLAIN):
            return
        yield warning(
            "for some architectures Ollama goes back to f16 or stops: look for the cache's type in its log",
            "https://github.com/ollama/ollama/issues/13337, https://github.com/ollama/ollama/issues/15043",
        )
        yield warning(
            "OLLAMA_KV_CACHE_TYPE holds for every model that this server runs",
            "https://github.com/ollama/ollama/blob/fb3076099/docs/faq.mdx",
        )


def _same(asked: KVFormat, own: KVFormat, facts: ModelFacts | None) -> bool:
    """Whether ``asked`` is what llama.cpp holds as ``own``, for the heads of a model."""
    if asked == own:
        return True
    if facts is None or type(asked) is not type(own) or not isinstance(asked, LlamaCppFormat):
        return False
    return isinstance(own, LlamaCppFormat) and (
        asked.rotated_channels(facts.head_dim) == own.rotated_channels(facts.head_dim)
    )


def _is_unrotated(formats: tuple[KVFormat, KVFormat]) -> bool:
    return any(isinstance(form, LlamaCppFormat) and form.rotation == "none" for form in formats)
