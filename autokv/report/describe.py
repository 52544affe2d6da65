"""A configuration in words: a short name for tables, a phrase for a sentence."""

from __future__ import annotations

from autokv.config import (
    CompressionConfig,
    EvictionStage,
    FormatQuantization,
    FP8Quantization,
    IntegerQuantization,
    LowRankStage,
    NoStage,
    OnWrite,
)

UNCOMPRESSED = "16-bit cache"

LOW_RANK_NAMES = {"residual": "GEAR", "latent": "latent"}
USUAL_AXES = {"key": "channel", "value": "token"}
"""Scales per key channel and per value token, as in KIVI (Liu et al. 2024); only what differs is named."""


def describe(config: CompressionConfig) -> str:
    """Short name of a configuration: ``SnapKV 40%, K4V2 g64, residual 128, GEAR r4``.

    What a name leaves out (sink tokens, options) is in the configuration itself; two that differ only there share it.
    """
    pipeline = config.pipeline
    parts: list[str] = []
    if isinstance(pipeline.eviction, EvictionStage):
        parts.append(_eviction(pipeline.eviction))
    if not isinstance(pipeline.quantization, NoStage):
        parts.extend(_quantization(pipeline.quantization))
    if isinstance(pipeline.low_rank, LowRankStage):
        stage = pipeline.low_rank
        name = LOW_RANK_NAMES.get(stage.method, stage.method)
        parts.append(f"{name} r{_pair(stage.key_rank, stage.value_rank)}")
    if isinstance(pipeline.write, OnWrite) and parts:
        parts.append("on write")
    return ", ".join(parts) or UNCOMPRESSED


def explain(config: CompressionConfig) -> str:
    """What a configuration does, as the predicate of a sentence: ``keeps 40% of the tokens (SnapKV), holds …``."""
    pipeline = config.pipeline
    parts: list[str] = []
    if isinstance(pipeline.eviction, EvictionStage):
        parts.append(f"keeps {_kept(pipeline.eviction)} ({_method(pipeline.eviction)})")
    if isinstance(pipeline.quantization, IntegerQuantization):
        key, value = pipeline.quantization.key.bits, pipeline.quantization.value.bits
        widths = f"keys and values in {key} bits" if key == value else f"keys in {key} bits and values in {value}"
        parts.append(f"holds {widths}{_newest(pipeline.quantization.residual_tokens)}")
    elif isinstance(pipeline.quantization, FP8Quantization):
        parts.append(f"holds keys and values in 8-bit floats{_newest(pipeline.quantization.residual_tokens)}")
    elif isinstance(pipeline.quantization, FormatQuantization):
        names = pipeline.quantization.key.title, pipeline.quantization.value.title
        kinds = f"keys and values as {names[0]}" if len({*names}) == 1 else "keys as {} and values as {}".format(*names)
        parts.append(f"holds {kinds}{_newest(pipeline.quantization.residual_tokens)}")
    if isinstance(pipeline.low_rank, LowRankStage):
        ranks = _pair(pipeline.low_rank.key_rank, pipeline.low_rank.value_rank)
        if pipeline.low_rank.method == "residual":
            parts.append(f"corrects their error with factors of rank {ranks} (GEAR)")
        else:
            parts.append(f"projects onto a latent basis of rank {ranks}")
    if not parts:
        return "holds the whole cache in 16 bits"
    if isinstance(pipeline.write, OnWrite):
        parts.append("compresses each token as it is written")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _eviction(stage: EvictionStage) -> str:
    budgets = [budget for budget in (stage.layer_budget, stage.head_budget) if budget != "uniform"]
    kept = f"{stage.keep_tokens:,} tokens" if stage.keep_ratio is None else f"{100 * stage.keep_ratio:.3g}%"
    return " ".join([_method(stage), kept, *budgets])


def _quantization(stage: IntegerQuantization | FP8Quantization | FormatQuantization) -> list[str]:
    if isinstance(stage, FP8Quantization):
        parts = ["FP8"]
    elif isinstance(stage, FormatQuantization):
        key, value = stage.key.title, stage.value.title
        parts = [key if key == value else f"{key}/{value}"]
        if stage.layers:
            parts[0] += " (some layers otherwise)"
    else:
        parts = [f"K{stage.key.bits}V{stage.value.bits} g{_pair(stage.key.group_size, stage.value.group_size)}"]
        for side, usual in USUAL_AXES.items():
            axis = getattr(stage, side).axis
            if axis != usual:
                parts[0] += f" {side}/{axis}"
    if not isinstance(stage, FormatQuantization) and stage.rotation != "none":
        parts[0] += f" {stage.rotation.capitalize()}"
    if stage.residual_tokens:
        parts.append(f"residual {stage.residual_tokens}")
    return parts


def _method(stage: EvictionStage) -> str:
    return stage.title or stage.method


def _newest(residual_tokens: int) -> str:
    return f" (the newest {residual_tokens} tokens in 16)" if residual_tokens else ""


def _kept(stage: EvictionStage) -> str:
    if stage.keep_ratio is None:
        return f"at most {stage.keep_tokens:,} tokens"
    return f"{100 * stage.keep_ratio:.3g}% of the tokens"


def _pair(key: int, value: int) -> str:
    return str(key) if key == value else f"{key}/{value}"
