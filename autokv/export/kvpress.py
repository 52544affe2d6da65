"""kvpress: eviction of the prompt's tokens, by presses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from autokv.config import (
    H2O,
    TOVA,
    AfterPrefill,
    CompressionConfig,
    EvictionStage,
    ExpectedAttention,
    KeyDiff,
    KNorm,
    LagKV,
    Pipeline,
    Random,
    SnapKV,
    StreamingLLM,
    Write,
)
from autokv.errors import ConfigError
from autokv.export.findings import Device, Finding, warning
from autokv.export.options import choice, read_options
from autokv.export.target import Artifact, Target
from autokv.models.facts import ModelFacts
from autokv.open_union import method_of

PRESSES: Final[dict[str, tuple[type[EvictionStage], dict[str, str]]]] = {
    "SnapKVPress": (SnapKV, {"window_size": "window", "kernel_size": "kernel"}),
    "ExpectedAttentionPress": (
        ExpectedAttention,
        {
            "n_sink": "sink_tokens",
            "n_future_positions": "future_positions",
            "use_covariance": "use_covariance",
            "use_vnorm": "use_value_norm",
        },
    ),
    "StreamingLLMPress": (StreamingLLM, {"n_sink": "sink_tokens"}),
    "LagKVPress": (LagKV, {"n_sink": "sink_tokens", "lag_size": "lag"}),
    "KnormPress": (KNorm, {}),
    "KeyDiffPress": (KeyDiff, {}),
    "TOVAPress": (TOVA, {}),
    "ObservedAttentionPress": (H2O, {}),
    "RandomPress": (Random, {"seed": "seed"}),
}
"""Presses, their eviction, and their options by the names of its fields."""
_TREE: Final = "https://github.com/NVIDIA/kvpress/blob/v0.5.5/kvpress/presses/"
_ADAPTIVE: Final = (SnapKV, ExpectedAttention, KNorm, KeyDiff)
"""Methods whose scores compare between heads."""


class KVPress(Target):
    name: ClassVar[str] = "kvpress"
    title: ClassVar[str] = "kvpress"
    version: ClassVar[str] = "0.5.5"
    source: ClassVar[str] = "https://github.com/NVIDIA/kvpress/blob/v0.5.5/kvpress/__init__.py"
    write: ClassVar[Write] = AfterPrefill()
    holds: ClassVar[str] = "eviction of a share of the prompt; pyramid budgets with SnapKV, adaptive heads"
    bytes_counted: ClassVar[str] = "16 bits of the tokens that stay"
    reasons: ClassVar[Mapping[str, str]] = {
        "eviction": "a press removes a share of the prompt; which tokens always stay is part of the press",
        "quantization.key": "kvpress evicts and does not quantize",
        "quantization.value": "kvpress evicts and does not quantize",
    }

    def held(self, asked: Pipeline, facts: ModelFacts | None) -> Pipeline:
        stage = asked.eviction
        known = isinstance(stage, EvictionStage) and any(type(stage) is kind for kind, _ in PRESSES.values())
        if not known or not isinstance(stage, EvictionStage) or stage.keep_ratio is None:
            return Pipeline(write=asked.write)
        return Pipeline(eviction=_pressed(stage))

    def settings(self, asked: Pipeline, facts: ModelFacts | None) -> tuple[Pipeline, ...]:
        del asked, facts
        return ()

    def arguments(self, held: CompressionConfig, facts: ModelFacts | None = None) -> list[str]:
        stage = held.pipeline.eviction
        if not isinstance(stage, EvictionStage) or stage.keep_ratio is None:
            return []
        press, options = _press_of(stage)
        own = {name: getattr(stage, field, getattr(_options(stage), field, None)) for name, field in options.items()}
        wrapper = "AdaKVPress" if stage.head_budget == "adaptive" else None
        pairs = {"compression_ratio": round(1 - stage.keep_ratio, 12), **own}
        return [
            f"press={press}",
            *([f"wrapper={wrapper}"] if wrapper else []),
            *(f"{name}={json.dumps(value)}" for name, value in pairs.items()),
        ]

    def parse(self, arguments: Sequence[str]) -> CompressionConfig:
        names = {"press", "wrapper", "compression_ratio", *(name for _, own in PRESSES.values() for name in own)}
        given = read_options(arguments, {name: name for name in names}, target=self.title)
        if "press" not in given:
            return CompressionConfig()
        press = choice(given["press"][0], ("PyramidKVPress", *PRESSES), option="press", target=self.title)
        kind, options = PRESSES["SnapKVPress" if press == "PyramidKVPress" else press]
        values = {name: _value(name, each[0]) for name, each in given.items() if name not in ("press", "wrapper")}
        ratio = values.pop("compression_ratio", 0.0)
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
            raise ConfigError(
                f"kvpress takes no compression_ratio {ratio!r}",
                field="--engine-args",
                remedy="give the share that is removed, from 0 to below 1",
            )
        for name in values:
            choice(name, options, option=press, target=self.title)
        document: dict[str, Any] = {"method": method_of(kind)}
        document |= {"keep_ratio": round(1 - ratio, 12), "sink_tokens": 4 if "n_sink" in options else 0}
        document |= {"recent_tokens": 0, "options": {}}
        for name, value in values.items():
            target = document if options[name] == "sink_tokens" else document["options"]
            target[options[name]] = value
        if kind is H2O:
            document["options"]["normalize"] = True
        if press == "PyramidKVPress":
            document["layer_budget"] = "pyramid"
        if "wrapper" in given:
            choice(given["wrapper"][0], ("AdaKVPress",), option="wrapper", target=self.title)
            document["head_budget"] = "adaptive"
        config = CompressionConfig.parse({"pipeline": {"eviction": document}}, where="--engine-args")
        return self.hold(config).held

    def render(
        self, held: CompressionConfig, facts: ModelFacts | None = None, model: str | None = None
    ) -> tuple[Artifact, ...]:
        pairs = dict(each.split("=", 1) for each in self.arguments(held, facts))
        if not pairs:
            return ()
        press, wrapper = pairs.pop("press"), pairs.pop("wrapper", None)
        made = f"{press}({', '.join(f'{name}={json.loads(value)!r}' for name, value in pairs.items())})"
        names = ", ".join(filter(None, (wrapper, press)))
        code = (
            f"from kvpress import {names}\n"
            "from transformers import pipeline\n\n"
            f"answer = pipeline('kv-press-text-generation', model={model or 'MODEL'!r}, device_map='auto')\n"
            f"press = {f'{wrapper}({made})' if wrapper else made}\n"
            "print(answer('A long context.', question='What does it say?', press=press)['answer'])\n"
        )
        return (Artifact("python", "kvpress_generate.py", code),)

    def findings(
        self, held: Pipeline, facts: ModelFacts | None, device: Device | None, backend: str | None
    ) -> Iterator[Finding]:
        stage = held.eviction
        if not isinstance(stage, EvictionStage):
            return
        if stage.head_budget == "adaptive":
            yield warning("AdaKVPress masks tokens and keeps them: no memory is freed", f"{_TREE}adakv_press.py")
        if isinstance(stage, H2O):
            yield warning(
                "ObservedAttentionPress needs attn_implementation='eager'", f"{_TREE}observed_attention_press.py"
            )
        yield warning("kvpress 0.5.5 needs transformers before 5.3, and evicts from the prompt only", self.source)


def _press_of(stage: EvictionStage) -> tuple[str, dict[str, str]]:
    name = next(name for name, (kind, _) in PRESSES.items() if type(stage) is kind)
    options = PRESSES[name][1]
    return ("PyramidKVPress" if stage.layer_budget == "pyramid" else name), options


def _options(stage: EvictionStage) -> object:
    return getattr(stage, "options", None)


def _pressed(stage: EvictionStage) -> EvictionStage:
    """What a press does of ``stage``: it has no other tokens that always stay, and few budgets."""
    _, options = _press_of(stage)
    changed: dict[str, Any] = {"recent_tokens": 0}
    if "sink_tokens" not in options.values():
        changed["sink_tokens"] = 0
    if stage.layer_budget == "pyramid" and not isinstance(stage, SnapKV):
        changed["layer_budget"] = "uniform"
    pyramid = changed.get("layer_budget", stage.layer_budget) == "pyramid"
    if stage.head_budget == "adaptive" and (pyramid or not isinstance(stage, _ADAPTIVE)):
        changed["head_budget"] = "uniform"
    if isinstance(stage, H2O):
        changed["options"] = stage.options.model_copy(update={"normalize": True})
    return stage.model_copy(update=changed)


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - a number or a truth value
    lowered = {"True": "true", "False": "false"}.get(text, text)
    try:
        value = json.loads(lowered)
    except ValueError:
        value = None
    if not isinstance(value, int | float):
        raise ConfigError(
            f"kvpress takes no {text[:80]!r} for {name}", field="--engine-args", remedy="give a number, true or false"
        )
    return value
