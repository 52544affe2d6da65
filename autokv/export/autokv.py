"""AutoKV's own runtime: everything that its kernels read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from autokv.config import (
    AfterPrefill,
    CompressionConfig,
    FormatQuantization,
    FP8Quantization,
    IntegerFormat,
    IntegerQuantization,
    Pipeline,
    Write,
)
from autokv.documents import rendered
from autokv.errors import ConfigError
from autokv.export.fidelity import form_of
from autokv.export.findings import Device, Finding
from autokv.export.selection import distance, head_dim_of
from autokv.export.target import Artifact, Target
from autokv.formats import FP8E4M3, FP8E5M2, KVFormat, MinMaxInteger
from autokv.models.facts import ModelFacts

BITS: Final = (2, 3, 4, 8)
GROUP_SIZES: Final = (16, 32, 64, 128)


class AutoKV(Target):
    name: ClassVar[str] = "autokv"
    title: ClassVar[str] = "AutoKV's runtime"
    version: ClassVar[str] = "as installed"
    source: ClassVar[str] = "docs/runtime.md"
    write: ClassVar[Write] = AfterPrefill()
    holds: ClassVar[str] = "every eviction, low rank, min-max integers of 2, 3, 4 and 8 bits, fp8; a residual window"
    bytes_counted: ClassVar[str] = "what its tensors take"
    reasons: ClassVar[Mapping[str, str]] = {
        "quantization.key": "AutoKV's kernels read min-max integers and fp8 only",
        "quantization.value": "AutoKV's kernels read min-max integers and fp8 only",
        "quantization.layers": "AutoKV's runtime holds every layer in the same formats",
        "write": "AutoKV's runtime compresses a prompt once it is read",
    }

    def held(self, asked: Pipeline, facts: ModelFacts | None) -> Pipeline:
        changed: dict[str, object] = {}
        if not isinstance(asked.write, AfterPrefill):
            changed["write"] = AfterPrefill()
        if isinstance(asked.quantization, FormatQuantization):
            changed["quantization"] = super().held(asked, facts).quantization
        return asked.model_copy(update=changed)

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> Iterator[Pipeline]:
        stage = asked.quantization
        if not isinstance(stage, FormatQuantization):
            return
        window = stage.residual_tokens
        if all(isinstance(form, FP8E4M3 | FP8E5M2) for form in (stage.key, stage.value)):
            yield Pipeline(quantization=FP8Quantization(method="fp8", residual_tokens=window))
        rotated = any(getattr(form, "rotation", "none") == "hadamard" for form in (stage.key, stage.value))
        yield Pipeline(
            quantization=IntegerQuantization(
                method="integer",
                key=self._integer(stage, "key", facts),
                value=self._integer(stage, "value", facts),
                rotation="hadamard" if rotated else "none",
                residual_tokens=window,
            )
        )

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        return [held.model_dump_json()]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        text = " ".join(arguments)
        try:
            return CompressionConfig.model_validate_json(text)
        except ValueError:
            raise ConfigError(
                "AutoKV's runtime takes a configuration as JSON",
                field="--engine-args",
                remedy="give a file with --config instead",
            ) from None

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            "from autokv import CompressedCache\n\n"
            f"name = {model or 'MODEL'!r}\n"
            "tokenizer = AutoTokenizer.from_pretrained(name)\n"
            "model = AutoModelForCausalLM.from_pretrained(name, dtype='auto')\n"
            "inputs = tokenizer('Why is the sky blue?', return_tensors='pt')\n"
            "cache = CompressedCache.from_config(model, 'config.yaml')\n"
            "output = model.generate(**inputs, past_key_values=cache, max_new_tokens=64)\n"
            "print(tokenizer.decode(output[0], skip_special_tokens=True))\n"
        )
        return (
            Artifact("yaml", "config.yaml", rendered(held.model_dump(mode="json"), "yaml").decode()),
            Artifact("python", "autokv_generate.py", code),
        )

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> tuple[Finding, ...]:
        del held, facts, device, backend
        return ()

    @staticmethod
    def _integer(stage: FormatQuantization, side: str, facts: ModelFacts | None) -> IntegerFormat:
        """The integers that are nearest to one side's format."""
        found = form_of(stage, side)  # type: ignore[arg-type]
        asked: KVFormat = found[0] if found else getattr(stage, side)
        width = head_dim_of(facts)
        axis = getattr(asked, "axis", "token") if isinstance(asked, MinMaxInteger) else "token"
        own = getattr(asked, "group_size", None) if isinstance(asked, MinMaxInteger) else None
        sizes = [size for size in GROUP_SIZES if axis == "channel" or width % size == 0] or [width]
        if isinstance(own, int) and (axis == "channel") <= (own in GROUP_SIZES):
            sizes = [own]
        forms = [IntegerFormat.model_validate({"bits": b, "axis": axis, "group_size": s}) for b in BITS for s in sizes]
        rotation = getattr(asked, "rotation", "none")

        def far(form: IntegerFormat) -> float:
            same = MinMaxInteger(bits=form.bits, axis=form.axis, group_size=form.group_size, rotation=rotation)
            return distance(asked, same, width)

        return min(forms, key=far)
