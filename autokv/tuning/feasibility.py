"""What is known of a candidate before it runs: whether it fits, and the bytes that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autokv.config import (
    CompressionConfig,
    IntegerFormat,
    IntegerQuantization,
    LatentLowRank,
    NoStage,
    Pipeline,
    check_fits,
)
from autokv.errors import InfeasibleError
from autokv.tuning.objectives import constraints_of
from autokv.tuning.request import TuningRequest


@dataclass(frozen=True)
class CacheShape:
    """The compressed layers of a model, and the contexts on which a candidate is judged."""

    layers: int
    kv_heads: int
    head_dim: int
    context_tokens: tuple[int, ...]

    @property
    def bytes_16bit(self) -> float:
        """16-bit bytes per context token, keys and values, all these layers."""
        return 4.0 * self.layers * self.kv_heads * self.head_dim


def feasibility(request: TuningRequest, shape: CacheShape) -> Callable[[CompressionConfig], None]:
    """A check for :func:`autokv.tuning.search`.

    It raises ``ConfigError`` for a candidate that cannot run on some context, and ``InfeasibleError`` for one that
    breaks a constraint on bytes by codes and scales alone; a candidate that passes may still break it when measured.
    """
    contexts = sorted(set(shape.context_tokens))
    limits = [one for one in constraints_of(request) if one.metric in ("kv_bytes_per_token", "compression_ratio")]

    def check(config: CompressionConfig) -> None:
        for tokens in contexts:
            check_fits(config, head_dim=shape.head_dim, context_tokens=tokens)
        least = min_bytes_per_token(config, shape, contexts)
        best = {"kv_bytes_per_token": least, "compression_ratio": shape.bytes_16bit / least}
        for limit in limits:
            value = best[limit.metric]
            if limit.violation(value) > 0:
                raise InfeasibleError(f"reaches {value:.6g} at best", field=limit.metric, remedy=f"needed: {limit}")

    return check


def min_bytes_per_token(config: CompressionConfig, shape: CacheShape, contexts: Sequence[int]) -> float:
    """Bytes per context token that ``config`` cannot do without: the smallest over ``contexts``, all layers.

    A lower bound of what is held: codes, their scales and 16-bit tokens only. Factors, indices and padding come on
    top.
    """
    pipeline = config.pipeline
    rows = shape.layers * shape.kv_heads
    return min(
        rows * sum(_side_bytes(pipeline, side, shape.head_dim, tokens) for side in ("key", "value")) / tokens
        for tokens in contexts
    )


def _side_bytes(pipeline: Pipeline, side: str, head_dim: int, tokens: int) -> float:
    """Bytes of the keys, or of the values, of one KV head, averaged over layers and heads."""
    eviction, quantization, low_rank = pipeline.eviction, pipeline.quantization, pipeline.low_rank
    even = isinstance(eviction, NoStage) or (eviction.layer_budget, eviction.head_budget) == ("uniform", "uniform")
    kept = tokens if isinstance(eviction, NoStage) else max(1, eviction.budget(tokens))
    width = (getattr(low_rank, f"{side}_rank") if isinstance(low_rank, LatentLowRank) else 0) or head_dim
    bits, residual = 16.0, 0
    if not isinstance(quantization, NoStage):
        bits = _code_bits(getattr(quantization, side)) if isinstance(quantization, IntegerQuantization) else 8.0
        # Uneven heads may be shorter than the residual window, so that nothing is known of its size.
        residual = min(kept, quantization.residual_tokens) if even else 0
    return width * ((kept - residual) * bits + residual * 16.0) / 8


def _code_bits(form: IntegerFormat) -> float:
    """Bits of one value: its code and its share of a group's scale and minimum, 16 bits each."""
    return form.bits + 32 / form.group_size
