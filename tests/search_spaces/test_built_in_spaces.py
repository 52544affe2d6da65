"""Every built-in space, whatever there are, holds what it promises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from autokv.config import CompressionConfig, SnapKV, check_fits
from autokv.search_spaces import load_space, names

CONTEXT = 16384
HEAD_DIMS = (64, 80, 128)


class Dice:
    """A chooser that draws uniformly."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        return self.random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is None:
            return self.random.uniform(low, high)
        return low + step * self.random.randint(0, round((high - low) / step))


def test_the_promised_spaces_are_there() -> None:
    promised = {"balanced", "quantization-only", "eviction-only", "lossless-leaning", "long-context", "edge"}
    assert promised | {"multi-turn", "throughput"} <= set(names())


def test_a_conversation_loses_no_token() -> None:
    assert set(load_space("multi-turn").stages["eviction"].methods) == {"none"}


@pytest.mark.parametrize("name", names())
def test_literature_lies_inside(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert len(space.literature) >= 5
    for config in space.literature.values():
        assert space.to_config(space.params_of(config)) == config
        check_fits(config, head_dim=64, context_tokens=CONTEXT)
    assert len({config.digest for config in space.literature.values()}) == len(space.literature)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("name", names())
def test_every_draw_runs(name: str, head_dim: int) -> None:
    space = load_space(name).fitted(head_dim)
    for seed in range(60):
        config = space.to_config(space.sample(Dice(seed)))
        check_fits(config, head_dim=head_dim, context_tokens=CONTEXT)
        point = space.params_of(config)
        assert space.to_config(point) == config
        assert set(point) <= set(space.parameters)
    for config in space.literature.values():
        assert space.to_config(space.params_of(config)) == config
        check_fits(config, head_dim=head_dim, context_tokens=CONTEXT)


@pytest.mark.parametrize("name", names())
def test_one_setting_has_one_digest(name: str) -> None:
    space = load_space(name).fitted(64)
    config = space.to_config(space.sample(Dice(3)))
    again = CompressionConfig.model_validate_json(config.model_dump_json())
    assert again.digest == config.digest
    ratio = config.pipeline.model_dump()["eviction"].get("keep_ratio", 0.5)
    assert ratio == float(f"{ratio:.10g}")


@pytest.mark.parametrize("name", names())
def test_statistics_cover_every_scorer_with_its_largest_window(name: str) -> None:
    space = load_space(name).fitted(64)
    kept = {config.pipeline.eviction.method: config.pipeline.eviction for config in space.statistics_configs()}
    assert set(kept) - {"none"} == set(space.stages["eviction"].methods) - {"none"}
    for seed in range(50):
        eviction = space.to_config(space.sample(Dice(seed))).pipeline.eviction
        if isinstance(eviction, SnapKV):
            largest = kept["snapkv"]
            assert isinstance(largest, SnapKV)
            assert largest.options.window >= eviction.options.window
    for config in space.literature.values():
        assert config.pipeline.eviction.method in kept
