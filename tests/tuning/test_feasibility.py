"""What is refused unrun is refused rightly: no bound exceeds the bytes that are really held."""

from __future__ import annotations

import random

import pytest
import torch

from autokv.compression import compress, statistics_needed
from autokv.compression.context import LayerContext
from autokv.config import CompressionConfig
from autokv.errors import ConfigError, InfeasibleError
from autokv.search_spaces import load_space, names
from autokv.tuning.feasibility import CacheShape, feasibility, min_bytes_per_token
from autokv.tuning.request import TuningRequest

LAYERS, KV_HEADS, HEAD_DIM = 2, 2, 32
KIVI = {
    "quantization": {
        "method": "integer",
        "key": {"bits": 4, "axis": "channel", "group_size": 32},
        "value": {"bits": 2, "axis": "token", "group_size": 32},
        "residual_tokens": 64,
    }
}


def shape(*contexts: int) -> CacheShape:
    return CacheShape(LAYERS, KV_HEADS, HEAD_DIM, contexts)


def configs() -> list[CompressionConfig]:
    """Points of every built-in space that need nothing of a prefill but keys and values."""
    found: dict[str, CompressionConfig] = {}
    for name in names():
        space = load_space(name).fitted(HEAD_DIM)
        dice = random.Random(name)
        for _ in range(120):
            point = {name: dice.choice(domain.grid()) for name, domain in space.parameters.items()}
            config = space.to_config(point)
            needs = statistics_needed(config)
            if not (needs.observation_window or needs.attention_received or needs.query_moments):
                found[config.digest] = config
    return list(found.values())


def test_the_bound_never_exceeds_what_is_held() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, shares = 300, []
    for config in configs():
        try:
            feasibility(TuningRequest(model="m"), shape(tokens))(config)
        except ConfigError:
            continue
        held = 0
        for layer in range(LAYERS):
            keys, values = torch.randn(2, 1, KV_HEADS, tokens, HEAD_DIM, generator=generator).half()
            held += compress(keys, values, LayerContext(layer, LAYERS, HEAD_DIM**-0.5), config).nbytes
        bound = min_bytes_per_token(config, shape(tokens), [tokens])
        assert bound <= held / tokens + 1e-9, config.canonical_json
        shares.append(bound * tokens / held)
    assert len(shares) > 100
    assert sorted(shares)[len(shares) // 2] > 0.75, "a bound that says nothing is no use"


def test_the_identity_is_known_exactly() -> None:
    assert min_bytes_per_token(CompressionConfig(), shape(100), [100]) == shape(100).bytes_16bit == 2 * 2 * 32 * 4


def test_the_bound_by_hand() -> None:
    config = CompressionConfig.parse({"pipeline": KIVI})
    per_row = HEAD_DIM * ((1024 - 64) * ((4 + 1) + (2 + 1)) + 64 * 32) / 8
    assert min_bytes_per_token(config, shape(1024), [1024]) == pytest.approx(LAYERS * KV_HEADS * per_row / 1024)
    # The residual window weighs less in a longer context; the bound must hold on each.
    assert min_bytes_per_token(config, shape(1024, 4096), [1024, 4096]) == min_bytes_per_token(
        config, shape(4096), [4096]
    )


def test_a_cap_that_cannot_be_met_is_refused_with_its_figure() -> None:
    config = CompressionConfig.parse({"pipeline": KIVI})
    bound = min_bytes_per_token(config, shape(1024), [1024])
    under = TuningRequest(model="m", maximums={"kv_bytes_per_token": bound - 1})
    with pytest.raises(InfeasibleError, match=r"kv_bytes_per_token: reaches 152 at best; needed: .* <= 151 bytes"):
        feasibility(under, shape(1024))(config)
    feasibility(TuningRequest(model="m", maximums={"kv_bytes_per_token": bound + 1}), shape(1024))(config)
    ratio = TuningRequest(model="m", minimums={"compression_ratio": 5.0})
    with pytest.raises(InfeasibleError, match=r"compression_ratio: reaches 3\.36842 at best"):
        feasibility(ratio, shape(1024))(config)
    # A quality that has not been measured refuses nothing.
    feasibility(TuningRequest(model="m", maximums={"kl_divergence": 1e-9}), shape(1024))(config)


def test_what_does_not_fit_any_one_context_is_refused() -> None:
    config = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.25}}})
    check = feasibility(TuningRequest(model="m"), shape(1024, 128))
    with pytest.raises(ConfigError, match="keeps 32 of 128 tokens"):
        check(config)
    feasibility(TuningRequest(model="m"), shape(1024))(config)
