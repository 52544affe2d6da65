"""What a compressed cache needs to know of its model and configuration, checked before any work."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from autokv import settings
from autokv.compression import StatisticsNeeded, statistics_needed
from autokv.config import (
    CompressionConfig,
    ConfigurationDocument,
    FormatQuantization,
    FP8Quantization,
    OnWrite,
    check_fits,
)
from autokv.errors import ConfigError, RequestError
from autokv.kernels import backend
from autokv.models import ModelFacts
from autokv.models.inspection import facts_of
from autokv.runtime.attention import install
from autokv.runtime.contexts import LayerContexts, rotation_is_known
from autokv.runtime.growth import Growth


@dataclass(frozen=True)
class Plan(Growth):
    """One configuration on one model. A copy of what uses it shares it, and with it the model."""

    model: PreTrainedModel
    facts: ModelFacts
    needs: StatisticsNeeded
    contexts: LayerContexts
    modules: Mapping[int, frozenset[nn.Module]]
    """Of each layer, the model's modules that know its index; its attention is one of them."""

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse.

        Raises:
            RequestError: always; the model and its weights would be written with it.
        """
        raise RequestError(
            "a compressed cache cannot be saved: it works on a model in memory",
            field="past_key_values",
            remedy="copy it with copy.deepcopy, or make it anew from the prompt",
        )


def make_plan(model: PreTrainedModel, config: CompressionConfig | str | Path) -> Plan:
    """Check that ``config`` runs on ``model``, and give the model AutoKV's attention.

    Raises:
        ConfigError: the configuration is malformed, was made for another model, or cannot run on this one.
        ModelError: the model cannot be compressed.
    """
    where = str(config) if isinstance(config, str | Path) else "config"
    if isinstance(config, str | Path):
        config = ConfigurationDocument.load(config)
    facts = facts_of(model.config, model.config.name_or_path or type(model).__name__, model)
    if isinstance(config, ConfigurationDocument):
        _check_made_for(config, facts, where)
        config = config.config()
    check_fits(config, head_dim=facts.head_dim, context_tokens=sys.maxsize)
    _check_runs(config)
    _check_float8(config, model.device)
    needs, modules = statistics_needed(config), _modules(model, facts)
    if needs.query_moments and not any(rotation_is_known(module) for module in modules[facts.full_layers[0]]):
        raise ConfigError(
            f"cannot undo the rotation of {facts.model_type}'s queries",
            field="pipeline.eviction.method",
            remedy="choose another eviction",
        )
    kernels = backend(model.device, settings.current().kernels)
    install(model)
    contexts = LayerContexts(model, len(facts.full_layers), kernels)
    return Plan(config, kernels, model, facts, needs, contexts, modules)


def _check_made_for(document: ConfigurationDocument, facts: ModelFacts, where: str) -> None:
    """A document names the model that it was measured on; its figures mean nothing on a model of another shape."""
    for key in ("architecture", "layers", "kv_heads", "head_dim"):
        made_for, here = (document.model or {}).get(key), getattr(facts, key)
        if made_for is not None and made_for != here:
            raise ConfigError(
                f"was measured on a model with {key} {made_for}, this one has {here}",
                field=f"{where}: model.{key}",
                remedy="tune this model, or pass `ConfigurationDocument.load(path).config()` to use it unmeasured",
            )


def _check_runs(config: CompressionConfig) -> None:
    """An engine's formats and its way of writing are judged, not run."""
    pipeline = config.pipeline
    if isinstance(pipeline.quantization, FormatQuantization):
        raise ConfigError(
            "no kernel of AutoKV reads an engine's own formats; they are judged, not run here",
            field="pipeline.quantization.method",
            remedy="run it in that engine, judge it with `autokv evaluate --model MODEL --config CONFIG`, or choose "
            "integer or fp8",
        )
    if isinstance(pipeline.write, OnWrite):
        raise ConfigError(
            "AutoKV's runtime compresses a prompt after its prefill; on_write is judged, not run here",
            field="pipeline.write",
            remedy="run it in a server, judge it with `autokv evaluate --model MODEL --config CONFIG`, or leave write "
            "out",
        )


def _check_float8(config: CompressionConfig, device: torch.device) -> None:
    if not isinstance(config.pipeline.quantization, FP8Quantization):
        return
    try:
        torch.zeros(1, device=device).to(torch.float8_e4m3fn)
    except (RuntimeError, TypeError):
        raise ConfigError(
            f"fp8 does not exist on {device}",
            field="pipeline.quantization.method",
            remedy="choose a quantization in integers",
        ) from None


def _modules(model: PreTrainedModel, facts: ModelFacts) -> dict[int, frozenset[nn.Module]]:
    indexed = [(getattr(module, "layer_idx", None), module) for module in model.modules()]
    return {layer: frozenset(module for index, module in indexed if index == layer) for layer in range(facts.layers)}
