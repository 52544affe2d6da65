"""``keep_tokens`` from the prefill to hundreds of generated tokens, and what the search and a server know of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from autokv import CompressedCache, CompressionConfig
from autokv.compression.budgets import layer_budgets
from autokv.errors import SpaceError
from autokv.evaluation.costs.meter import bytes_of_sequences
from autokv.evaluation.costs.synthetic import Layers
from autokv.models import load
from autokv.runtime.plan import make_plan
from autokv.search_spaces import build_space
from autokv.tuning.feasibility import CacheShape, min_bytes_per_token

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

Tiny = Callable[..., "GenerativeModel"]
Ids = Callable[..., torch.Tensor]


def config(**fields: object) -> CompressionConfig:
    eviction = {"method": "knorm", "sink_tokens": 2, "recent_tokens": 8, **fields}
    return CompressionConfig.parse({"pipeline": {"eviction": eviction}})


@pytest.mark.parametrize("fields", [{}, {"method": "snapkv", "options": {"window": 8}, "layer_budget": "pyramid"}])
@pytest.mark.parametrize("prompt", [20, 40, 90])
def test_a_cache_stops_growing(fields: dict[str, object], prompt: int, tiny: Tiny, ids: Ids) -> None:
    model = tiny("llama")
    plan = make_plan(model, config(keep_tokens=40, **fields))
    stage = plan.eviction
    assert stage is not None
    cache, sizes = CompressedCache(plan), []
    with torch.inference_mode():
        model(ids(1, prompt), past_key_values=cache)
        shares = [len(cache.kept_positions(layer, 0, 0)) for layer in range(3)]
        assert sum(shares) == 3 * min(prompt, 40)
        for seen, token in enumerate(ids(1, 200, seed=1).unbind(1), start=prompt + 1):
            model(token[:, None], past_key_values=cache)
            held = [len(cache.kept_positions(layer, 0, 0)) for layer in range(3)]
            # What was kept stays, even where a pyramid over more tokens would have left this layer less.
            shares = list(map(max, layer_budgets(stage, seen, 3), shares))
            assert all(count <= share + plan.capacity for count, share in zip(held, shares, strict=True))
            sizes.append(sum(held))
    assert set(cache.kept_positions(0, 0, 0).tolist()) >= {0, 1, *range(prompt + 192, prompt + 200)}
    # From then on, what is held goes up and down with the window.
    assert max(sizes[-100:]) <= max(sizes[:100])


def test_a_share_and_as_many_tokens_keep_the_same_of_a_prompt(tiny: Tiny, ids: Ids) -> None:
    model, kept = tiny("llama"), []
    for fields in ({"keep_ratio": 0.4}, {"keep_tokens": 40}):
        cache = CompressedCache.from_config(model, config(head_budget="adaptive", **fields))
        with torch.inference_mode():
            model(ids(1, 100), past_key_values=cache)
        kept.append([cache.kept_positions(layer, 0, head).tolist() for layer in range(3) for head in range(2)])
    assert kept[0] == kept[1]


def test_the_least_bytes_are_those_of_the_tokens_that_stay() -> None:
    shape = CacheShape(layers=2, kv_heads=2, head_dim=32, context_tokens=(1000,))
    by_tokens, by_share = (
        min_bytes_per_token(one, shape, [1000]) for one in (config(keep_tokens=250), config(keep_ratio=0.25))
    )
    assert by_tokens == by_share == shape.bytes_16bit / 4


def test_a_servers_line_is_level_beyond_the_budget(tiny_model_folder: Callable[..., Path]) -> None:
    """The line is the best for lengths from 64 tokens on; one through what grows for ever would be far above."""
    model = load(str(tiny_model_folder("llama", max_position_embeddings=8192)), dtype="float32", device="cpu")
    short, long = 64, 8192
    plan = make_plan(model.model, config(keep_tokens=512))
    line = bytes_of_sequences(Layers(model), plan, long)
    endless = bytes_of_sequences(Layers(model), make_plan(model.model, config(keep_ratio=1.0)), long)
    lengths = np.geomspace(short, long, 50)
    truth = endless.per_token * np.minimum(lengths, 512) + endless.per_sequence
    drawn = line.per_token * lengths + line.per_sequence
    assert 0 < line.per_token < endless.per_token / 8
    assert abs(drawn.mean() / truth.mean() - 1) < 0.1
    assert drawn[-1] < 2 * truth[-1]


def test_a_space_may_search_tokens() -> None:
    stages = {"eviction": [{"method": ["snapkv", "knorm"], "keep_tokens": [128, 512]}, {"method": "none"}]}
    space = build_space({"name": "s", "stages": stages}, "s.yaml")
    points = list(space.grid())
    assert {space.to_config(point).digest for point in points} == {
        *(
            CompressionConfig.parse({"pipeline": {"eviction": {"method": method, "keep_tokens": tokens}}}).digest
            for method in ("snapkv", "knorm")
            for tokens in (128, 512)
        ),
        CompressionConfig().digest,
    }
    for point in points:
        assert space.to_config(space.params_of(space.to_config(point))) == space.to_config(point)


def test_a_share_lies_outside_of_a_space_of_tokens() -> None:
    space = build_space(
        {"name": "s", "stages": {"eviction": [{"method": "knorm", "keep_tokens": [128, 512]}]}}, "s.yaml"
    )
    with pytest.raises(SpaceError, match="outside"):
        space.params_of(config(keep_ratio=0.5, sink_tokens=4, recent_tokens=64))
