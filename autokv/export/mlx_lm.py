"""mlx-lm: integers of one width for keys and values, in groups of channels."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from autokv.config import CompressionConfig, OnWrite, Pipeline, Write
from autokv.errors import ConfigError
from autokv.export.findings import Device, Finding, refusal, warning
from autokv.export.options import choice, read_options, whole
from autokv.export.target import COMPRESSED, Artifact, Target, formats_of, own_chunk_exact, written
from autokv.formats import KVFormat, MLXAffine
from autokv.models.facts import ModelFacts

BITS: Final = (2, 3, 4, 5, 6, 8)
GROUP_SIZES: Final = (32, 64, 128)
CHUNK_TOKENS: Final = 2048
"""``--prefill-step-size``."""
STARTS: Final = 5000
"""``--quantized-kv-start`` where it is not given: before this token nothing is compressed."""
_OPTIONS: Final = {
    "--kv-bits": "bits",
    "--kv-group-size": "group",
    "--quantized-kv-start": "start",
    "--prefill-step-size": "chunk",
}


class MLXLM(Target):
    name: ClassVar[str] = "mlx-lm"
    title: ClassVar[str] = "mlx-lm"
    version: ClassVar[str] = "0.32.2"
    source: ClassVar[str] = "https://github.com/ml-explore/mlx-lm/blob/v0.32.2/mlx_lm/generate.py"
    write: ClassVar[Write] = own_chunk_exact(COMPRESSED, CHUNK_TOKENS)
    holds: ClassVar[str] = "2, 3, 4, 5, 6 and 8 bits in groups of 32, 64 or 128 channels"
    bytes_counted: ClassVar[str] = "codes, and a 16-bit scale and bias per group"
    reasons: ClassVar[Mapping[str, str]] = {
        "write": "mlx-lm compresses a chunk of the prompt once it has read itself, and then every token as it comes",
        "eviction": "mlx-lm's --max-kv-size cannot be combined with --kv-bits, and has no score",
    }

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        rule = own_chunk_exact(asked.write, CHUNK_TOKENS)
        yield from (written(form, form, rule) for form in _FORMS)

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        formats = formats_of(held.pipeline)
        if formats is None or not isinstance(formats[0], MLXAffine):
            return []
        form, write = formats[0], held.pipeline.write
        arguments = ["--kv-bits", str(form.bits), "--kv-group-size", str(form.group_size), "--quantized-kv-start", "0"]
        if isinstance(write, OnWrite) and write.chunk_tokens != CHUNK_TOKENS:
            arguments += ["--prefill-step-size", str(write.chunk_tokens)]
        return arguments

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        given = read_options(arguments, _OPTIONS, target=self.title)
        numbers = {
            name: whole(values[0], option=name, target=self.title, least=name != "start")
            for name, values in given.items()
        }
        if "bits" not in numbers:
            return CompressionConfig()
        if numbers.get("start", STARTS):
            raise ConfigError(
                f"mlx-lm compresses nothing before token {numbers.get('start', STARTS)}, and then everything, which "
                "AutoKV cannot judge",
                field="--engine-args",
                remedy="give --quantized-kv-start 0",
            )
        bits = choice(str(numbers["bits"]), map(str, BITS), option="--kv-bits", target=self.title)
        group = choice(
            str(numbers.get("group", 64)), map(str, GROUP_SIZES), option="--kv-group-size", target=self.title
        )
        form = MLXAffine.model_validate({"bits": int(bits), "group_size": int(group)})
        rule = own_chunk_exact(COMPRESSED, numbers.get("chunk", CHUNK_TOKENS))
        return CompressionConfig(pipeline=written(form, form, rule))

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        command = ["mlx_lm.generate", "--model", model or "MODEL", *self.arguments(held, facts)]
        return (Artifact("arguments", "mlx-lm.sh", shlex.join([*command, "--prompt", "Why is the sky blue?"]) + "\n"),)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        if formats_of(held) is None:
            return
        yield warning(f"without --quantized-kv-start 0 mlx-lm compresses nothing before token {STARTS}", self.source)
        if facts is not None and facts.sliding_window:
            yield refusal(
                "mlx-lm cannot quantize the rotating cache of sliding-window layers",
                "https://github.com/ml-explore/mlx-lm/blob/v0.32.2/mlx_lm/models/cache.py",
            )


_FORMS: Final[tuple[KVFormat, ...]] = tuple(
    MLXAffine.model_validate({"bits": bits, "group_size": size}) for bits in BITS for size in GROUP_SIZES
)
