"""What of a configuration a time depends on: configurations that agree in it share what was measured."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from autokv.compression.budgets import layer_budgets
from autokv.compression.quantization import residual_tokens
from autokv.config import CompressionConfig, NoStage
from autokv.runtime.plan import Plan

_RAGGED = {"method": "knorm", "keep_ratio": 0.5, "sink_tokens": 0, "recent_tokens": 0, "head_budget": "adaptive"}
"""An eviction after which every head keeps another number of tokens."""


def held_tokens(plan: Plan, tokens: int) -> float:
    """What a layer holds of ``tokens`` seen, per KV head, mean over layers."""
    stage = plan.eviction
    return tokens if stage is None else fmean(layer_budgets(stage, tokens, len(plan.facts.full_layers)))


def first_room(plan: Plan, tokens: int) -> int:
    """Tokens that can be generated behind a prompt of ``tokens`` before a block leaves the window."""
    return plan.capacity - min(residual_tokens(plan.config.pipeline.quantization), int(held_tokens(plan, tokens)))


def is_ragged(plan: Plan) -> bool:
    """Whether the heads of a layer hold different numbers of tokens."""
    return plan.eviction is not None and plan.eviction.head_budget == "adaptive"


def stored_form(config: CompressionConfig) -> dict[str, Any]:
    """How a token is stored."""
    stages = config.pipeline.model_dump(mode="json")
    return {"quantization": stages["quantization"], "low_rank": stages["low_rank"]}


def read_form(plan: Plan) -> dict[str, Any]:
    """What one step's attention reads, but for the number of tokens: the same for every method of eviction whose
    window is as long and that needs to know as much of attention."""
    window = {"window": plan.capacity, "block": plan.block, "tracked": plan.watched, "ragged": is_ragged(plan)}
    return {**stored_form(plan.config), **window}


def without_eviction(config: CompressionConfig, *, ragged: bool = False) -> CompressionConfig:
    """Quantization and low rank, with every token kept or, if ``ragged``, half of them."""
    stages = stored_form(config)
    return CompressionConfig.parse({"pipeline": {**stages, "eviction": _RAGGED} if ragged else {**stages}})


def only_eviction(config: CompressionConfig) -> CompressionConfig:
    """Eviction, of tokens held in 16 bits."""
    stages = {"quantization": NoStage(), "low_rank": NoStage()}
    return CompressionConfig(pipeline=config.pipeline.model_copy(update=stages))
