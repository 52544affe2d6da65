"""An analytic stand-in for the evaluator: the trade-offs of a real model in microseconds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import pytest

from autokv.config import CompressionConfig, NoStage
from autokv.errors import AutoKVError
from autokv.evaluation.measurement import Measurement

LAYERS, KV_HEADS, HEAD_DIM, TOKENS = 4, 2, 64, 1024
STRENGTH = {"expected_attention": 0.5, "snapkv": 0.6, "h2o": 0.8, "tova": 0.9, "keydiff": 1.0, "lagkv": 1.1}
KEY_KL = {2: 0.16, 3: 0.02, 4: 0.0018, 8: 8e-6}
VALUE_KL = {2: 0.025, 3: 0.004, 4: 0.0007, 8: 2e-6}


def measure(config: CompressionConfig, samples: int = 2) -> Measurement:
    """Divergence, bytes and time of a configuration, by rules of thumb and with a fixed jitter per configuration."""
    pipeline = config.pipeline
    kept, kl, micros = 1.0, 1e-7, 20.0
    if not isinstance(pipeline.eviction, NoStage):
        eviction = pipeline.eviction
        assert eviction.keep_ratio is not None
        kept = eviction.keep_ratio
        damage = STRENGTH.get(eviction.method, 1.6) * (1 / kept - 1) ** 1.2 * 0.08
        damage *= 0.75 if eviction.head_budget == "adaptive" else 1.0
        damage *= 1.15 if eviction.layer_budget == "pyramid" else 1.0
        kl += damage
        micros += 4.0 if eviction.head_budget == "adaptive" else 0.0
    widths = {"key": HEAD_DIM, "value": HEAD_DIM}
    factors = 0.0
    if pipeline.low_rank.method != "none":
        for side in widths:
            rank = getattr(pipeline.low_rank, f"{side}_rank")
            factors += 2 * rank * HEAD_DIM / TOKENS
            if pipeline.low_rank.method == "latent" and rank:
                widths[side] = rank
                kl += 0.4 * (1 - rank / HEAD_DIM) ** 2
            micros += rank * 0.3
    held = sum(widths.values()) * 2.0
    quantization = pipeline.quantization
    if quantization.method == "fp8":
        held, kl, micros = held / 2, kl + 4e-4, micros + 2.0
    elif quantization.method == "integer":
        held = 0.0
        error = 0.0
        for side, table in (("key", KEY_KL), ("value", VALUE_KL)):
            form = getattr(quantization, side)
            held += widths[side] * (form.bits / 8 + 4 / form.group_size)
            side_error = table[form.bits] * (form.group_size / 32) ** 0.7
            if side == "key" and form.axis == "token":
                side_error *= 1.6 if quantization.rotation == "hadamard" else 4.0
            elif quantization.rotation == "hadamard":
                side_error *= 0.9
            error += side_error
        if pipeline.low_rank.method == "residual":
            error *= 1 / (1 + 0.12 * (pipeline.low_rank.key_rank + 0.5 * pipeline.low_rank.value_rank))
            held += 2 * (pipeline.low_rank.key_rank + pipeline.low_rank.value_rank)
        share = min(1.0, quantization.residual_tokens / (TOKENS * kept))
        held = held * (1 - share) + sum(widths.values()) * 2.0 * share
        kl += error * (1 - 0.5 * share**0.5)
        micros += 8.0 + (6.0 if quantization.rotation == "hadamard" else 0.0)
    held = LAYERS * KV_HEADS * (held * kept + factors)
    micros += 0.02 * held
    kl *= 1 + 0.1 * (jitter(config, "kl") - 0.5)
    rows = [
        {
            "id": f"p{index}",
            "kind": "text",
            "context_tokens": TOKENS,
            "kl_divergence": kl * (0.8 + 0.4 * index / max(1, samples - 1)),
            "top1_agreement": math.exp(-kl),
            "kv_bytes_per_token": held,
            "compression_ratio": LAYERS * KV_HEADS * HEAD_DIM * 4 / held,
            "attention_us": micros * (1 + 0.02 * (jitter(config, f"us{index}") - 0.5)),
        }
        for index in range(samples)
    ]
    return Measurement.of_samples(config, rows)


def jitter(config: CompressionConfig, salt: str) -> float:
    """A number in 0 … 1 that only depends on the configuration and ``salt``."""
    return int(hashlib.sha256(f"{config.digest}{salt}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@pytest.fixture
def analytic() -> Callable[[Sequence[CompressionConfig]], list[Measurement | AutoKVError]]:
    """An ``evaluate`` that judges by :func:`measure`."""
    return lambda configs: [measure(config) for config in configs]
