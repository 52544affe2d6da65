"""Widths of a head that no usual group divides: a group is the whole head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import optuna
import pytest
import torch

from autokv import CompressedCache, CompressionConfig
from autokv.config import check_fits
from autokv.errors import ConfigError
from autokv.evaluation import Measurement, Prompt
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.models import load
from autokv.search_spaces import load_space, names

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel


def integers(bits: int, group: int, axis: str = "token") -> CompressionConfig:
    side = {"bits": bits, "axis": axis, "group_size": group}
    return CompressionConfig.parse(
        {"pipeline": {"quantization": {"method": "integer", "key": side, "value": side, "residual_tokens": 16}}}
    )


@pytest.mark.parametrize("head_dim", [40, 72, 80, 96, 112, 256])
@pytest.mark.parametrize("name", names())
def test_whatever_a_space_gives_runs(name: str, head_dim: int) -> None:
    space = load_space(name).fitted(head_dim)
    sampler = optuna.samplers.RandomSampler(seed=head_dim)
    study = optuna.create_study(sampler=sampler)
    quantized = set()
    for _ in range(40):
        trial = study.ask()
        params = {
            key: trial.suggest_categorical(key, list(domain.grid()) if domain.ends() else [None])
            for key, domain in space.parameters.items()
        }
        config = space.to_config(params)
        check_fits(config, head_dim=head_dim, context_tokens=100_000)
        quantized.add(config.pipeline.quantization.method)
    if any("integer" in stage.methods for stage in space.stages.values()):
        assert "integer" in quantized
    for config in space.literature.values():
        check_fits(config, head_dim=head_dim, context_tokens=100_000)


def test_a_head_of_72_channels_is_judged_and_generated_from(tiny_model_folder: Callable[..., Path]) -> None:
    model = load(str(tiny_model_folder("llama", head_dim=72)))
    ids = torch.randint(0, 256, (1, 72), generator=torch.Generator().manual_seed(0))
    prompt = Prompt("p", "text", tuple(ids[0, :64].tolist()), tuple(ids[0, 64:].tolist()))
    configs = [integers(8, 72), integers(4, 72), integers(2, 72)]
    results = Evaluator(model, [prompt], 8, needs_of(configs), timed=False).evaluate(configs)
    losses, sizes = [], []
    for result in results:
        assert isinstance(result, Measurement)
        losses.append(result.value("kl_divergence"))
        sizes.append(result.value("kv_bytes_per_token"))
    assert losses[0] < losses[1] < losses[2]
    assert sizes[0] > sizes[1] > sizes[2]
    cache = CompressedCache.from_config(model.model, configs[0])
    plain = cast("GenerativeModel", model.model)
    compressed = plain.generate(ids, past_key_values=cache, max_new_tokens=24, do_sample=False, eos_token_id=None)
    assert compressed.shape == (1, 96)
    assert cache.nbytes > 0


def test_what_does_not_divide_names_what_does() -> None:
    with pytest.raises(ConfigError, match=r"64 does not divide the 72 channels.*use 72, or axis 'channel'"):
        check_fits(integers(4, 64), head_dim=72, context_tokens=1000)
    with pytest.raises(ConfigError, match="use 16, or"):
        check_fits(integers(4, 64), head_dim=80, context_tokens=1000)


@pytest.mark.parametrize("group", [72, 24])
def test_tokens_are_grouped_by_usual_sizes_only(group: int) -> None:
    with pytest.raises(ConfigError, match=f"16, 32, 64 or 128, got {group}"):
        integers(4, group, "channel")


@pytest.mark.parametrize("group", [0, -8, 12, 2048])
def test_groups_that_are_no_size(group: int) -> None:
    with pytest.raises(ConfigError, match="group_size"):
        integers(4, group)
