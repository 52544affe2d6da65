"""vLLM: formats of its KV cache by name, keys and values together; some layers may be left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final

from autokv.config import CompressionConfig, FormatQuantization, LayerFormats, NoStage, OnWrite, Pipeline, Write
from autokv.errors import ConfigError
from autokv.export import vllm_limits
from autokv.export.findings import Device, Finding
from autokv.export.kubernetes import wrapped
from autokv.export.options import choice, read_options, whole
from autokv.export.scaled_checkpoint import for_vllm
from autokv.export.selection import is_plain
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, own_chunk_exact, written
from autokv.formats import (
    BF16,
    F16,
    FP8E4M3,
    FP8E5M2,
    NVFP4,
    Int4PerTokenHead,
    Int8PerTokenHead,
    KVFormat,
    UltraQuant,
    turboquant,
    turboquant_uncompressed_layers,
)
from autokv.models.facts import ModelFacts

TURBOQUANT: Final = ("turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc", "turboquant_3bit_nc")
DTYPES: Final[dict[str, tuple[KVFormat, KVFormat]]] = {
    "fp8_e4m3": (FP8E4M3(), FP8E4M3()),
    "fp8_e5m2": (FP8E5M2(), FP8E5M2()),
    "fp8_per_token_head": (FP8E4M3(scaling="token_head"), FP8E4M3(scaling="token_head")),
    "int8_per_token_head": (Int8PerTokenHead(), Int8PerTokenHead()),
    "int4_per_token_head": (Int4PerTokenHead(), Int4PerTokenHead()),
    "nvfp4": (NVFP4(), NVFP4()),
    "nvfp4_4over6": (NVFP4(scale_search="four_over_six"), NVFP4(scale_search="four_over_six")),
    **{preset: turboquant(preset) for preset in TURBOQUANT},
    "ultraquant_4bit": (UltraQuant(rotation="hadamard"), UltraQuant()),
    "float16": (F16(), F16()),
    "bfloat16": (BF16(), BF16()),
}
ON_CPU: Final[dict[str, tuple[KVFormat, KVFormat]]] = {
    "fp8_e4m3": (FP8E4M3(rounding="truncate"), FP8E4M3(rounding="truncate")),
    "fp8_e5m2": (FP8E5M2(rounding="truncate"), FP8E5M2(rounding="truncate")),
}
"""What some types hold on a processor, where vLLM 0.32 drops the bits that do not fit."""
ALIASES: Final = {"fp8": "fp8_e4m3", "fp8_inc": "fp8_e4m3"}
FOR_MLA: Final = ("fp8_ds_mla", "nvfp4_ds_mla")
FIRST_CHUNK_EXACT: Final = (*TURBOQUANT, "ultraquant_4bit")
"""Their prefill attends to the chunk's own keys and values before they are compressed."""
CHUNK_TOKENS: Final = 2048
"""``--max-num-batched-tokens`` where vLLM does not raise it for a large GPU."""
_OPTIONS: Final = {
    "--kv-cache-dtype": "dtype",
    "--kv-cache-dtype-skip-layers": "skip",
    "--max-num-batched-tokens": "chunk",
    "--attention-backend": "backend",
}


class VLLM(Target):
    name: ClassVar[str] = "vllm"
    title: ClassVar[str] = "vLLM"
    version: ClassVar[str] = "0.32.0"
    source: ClassVar[str] = "https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/config/cache.py"
    write: ClassVar[Write] = COMPRESSED
    holds: ClassVar[str] = "fp8, int8 and int4 per token and head, nvfp4, TurboQuant, UltraQuant; layers left out"
    bytes_counted: ClassVar[str] = "codes and the scales beside them; layers left out in 16 bits"
    reasons: ClassVar[Mapping[str, str]] = {
        "quantization.layers": "vLLM leaves layers uncompressed, and TurboQuant and UltraQuant the first and last two",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        stage = asked.quantization
        layers = stage.layers if isinstance(stage, FormatQuantization) else ()
        for dtype, (key, value) in (*DTYPES.items(), *ON_CPU.items()):
            kept = tuple(entry for entry in layers if is_plain(entry))
            yield written(key, value, self._rule(dtype, asked.write), layers=self._with_boundary(dtype, kept, facts))
        if isinstance(stage, FormatQuantization) and _scaled(stage.key) and _scaled(stage.value):
            kept = tuple(each for each in layers if is_plain(each) or (_scaled(each.key) and _scaled(each.value)))
            yield written(stage.key, stage.value, COMPRESSED, layers=kept)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        dtype = self.dtype(held.pipeline)
        if dtype is None:
            return []
        arguments = ["--kv-cache-dtype", dtype]
        skipped = self._skipped(held.pipeline, dtype, facts)
        if skipped:
            arguments += ["--kv-cache-dtype-skip-layers", *skipped]
        write = held.pipeline.write
        if formats_of(held.pipeline) in ON_CPU.values():
            arguments += ["--attention-backend", "CPU_ATTN"]
        if isinstance(write, OnWrite) and write.chunk_tokens not in (None, CHUNK_TOKENS):
            arguments += ["--max-num-batched-tokens", str(write.chunk_tokens)]
        return arguments

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        given = read_options(arguments, _OPTIONS, target=self.title, many=("skip",))
        known = ("auto", *DTYPES, *ALIASES, *FOR_MLA)
        dtype = choice(given.get("dtype", ["auto"])[0], known, option="--kv-cache-dtype", target=self.title)
        if dtype in FOR_MLA:
            raise ConfigError(
                f"{dtype} is for models with multi-head latent attention, which AutoKV does not judge",
                field="--engine-args",
                remedy="choose another --kv-cache-dtype",
            )
        if dtype == "auto":
            return CompressionConfig()
        dtype = ALIASES.get(dtype, dtype)
        chunk = whole(given.get("chunk", [str(CHUNK_TOKENS)])[0], option="chunk", target=self.title, least=1)
        entries: list[LayerFormats] = []
        indices = tuple(
            whole(each, option="--kv-cache-dtype-skip-layers", target=self.title)
            for each in given.get("skip", [])
            if each != "sliding_window"
        )
        if indices:
            entries.append(LayerFormats(layers=indices, key=BF16(), value=BF16()))
        if "sliding_window" in given.get("skip", []):
            entries.append(LayerFormats(layers="sliding_window", key=BF16(), value=BF16()))
        rule = own_chunk_exact(COMPRESSED, chunk) if dtype in FIRST_CHUNK_EXACT else COMPRESSED
        backend = given.get("backend", [""])[0]
        if backend:
            choice(backend, vllm_limits.BACKENDS, option="--attention-backend", target=self.title)
        key, value = ON_CPU.get(dtype, DTYPES[dtype]) if backend == "CPU_ATTN" else DTYPES[dtype]
        layers = self._with_boundary(dtype, tuple(entries), None)
        return CompressionConfig(pipeline=written(key, value, rule, layers=layers))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        return (*wrapped(self.arguments(held, facts), model or "MODEL"), *for_vllm(held, facts))

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterable[Finding]:
        return vllm_limits.findings(self.dtype(held) or "auto", held, facts, device, backend)

    @staticmethod
    def dtype(held: Pipeline) -> str | None:
        """The value of ``--kv-cache-dtype``; None for ``auto``."""
        formats = formats_of(held)
        if formats is None:
            return None
        known = (*DTYPES.items(), *ON_CPU.items())
        return next((name for name, pair in known if pair == formats), "fp8_e4m3")

    @staticmethod
    def _rule(dtype: str, asked: Write) -> Write:
        return own_chunk_exact(asked, CHUNK_TOKENS) if dtype in FIRST_CHUNK_EXACT else COMPRESSED

    @staticmethod
    def _with_boundary(
        dtype: str, layers: tuple[LayerFormats, ...], facts: ModelFacts | None
    ) -> tuple[LayerFormats, ...]:
        boundary = _boundary(dtype, facts)
        return layers if not boundary or boundary in layers else (*layers, boundary)

    def _skipped(self, held: Pipeline, dtype: str, facts: ModelFacts | None) -> list[str]:
        stage = held.quantization
        if isinstance(stage, NoStage) or not isinstance(stage, FormatQuantization):
            return []
        skipped: list[str] = []
        for entry in stage.layers:
            if entry == _boundary(dtype, facts) or not is_plain(entry):
                continue
            if isinstance(entry.layers, str):
                skipped.append(entry.layers)
                continue
            for layer in entry.layers:
                if layer < 0 and facts is None:
                    raise ConfigError(
                        f"layer {layer} is counted from the last layer, and the model is not known",
                        field="pipeline.quantization.layers",
                        remedy="add --model",
                    )
                skipped.append(str(layer if facts is None or layer >= 0 else facts.layers + layer))
        return list(dict.fromkeys(skipped))


def _scaled(form: KVFormat) -> bool:
    """Whether a checkpoint's scales make it: one of all values, or one per KV head."""
    return isinstance(form, FP8E4M3) and form.scaling == "fixed" and form.rounding == "nearest"


def _boundary(dtype: str, facts: ModelFacts | None) -> LayerFormats | None:
    """The layers at either end that vLLM itself leaves out."""
    if dtype not in FIRST_CHUNK_EXACT:
        return None
    layers = (0, 1, -2, -1)
    if facts is not None and facts.layers < 4:
        layers = turboquant_uncompressed_layers(facts.layers)  # type: ignore[assignment]
    return LayerFormats(layers=layers, key=BF16(), value=BF16()) if layers else None
