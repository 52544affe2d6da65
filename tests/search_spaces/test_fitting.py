"""Fitting to head_dim: what cannot run is dropped, what contradicts itself is reconciled."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from autokv.config import CompressionConfig, IntegerQuantization, check_fits
from autokv.errors import ConfigError, SpaceError
from autokv.search_spaces import SearchSpace, build_space

DOCUMENT: dict[str, Any] = {
    "name": "small",
    "stages": {
        "quantization": [
            {"method": "none"},
            {
                "method": "integer",
                "key": {"bits": 4, "axis": ["channel", "token"], "group_size": [32, 64, 128]},
                "value": {"bits": 4, "axis": "token", "group_size": [16, 64, 128]},
                "residual_tokens": 0,
            },
        ],
        "low_rank": [
            {"method": "none"},
            {"method": "residual", "key_rank": 4, "value_rank": 0},
            {"method": "latent", "key_rank": {"low": 16, "high": 128, "step": 16}, "value_rank": [0, 32]},
        ],
    },
    "literature": [
        {
            "name": "wide",
            "pipeline": {
                "quantization": {
                    "method": "integer",
                    "key": {"bits": 4, "axis": "channel", "group_size": 32},
                    "value": {"bits": 4, "axis": "token", "group_size": 128},
                    "residual_tokens": 0,
                }
            },
        }
    ],
}


def small(**changes: Any) -> SearchSpace:  # noqa: ANN401
    document = deepcopy(DOCUMENT)
    document["stages"] |= changes
    document["literature"] = [] if changes else document["literature"]
    return build_space(document, "small.yaml")


def integers(config: CompressionConfig) -> IntegerQuantization:
    assert isinstance(config.pipeline.quantization, IntegerQuantization)
    return config.pipeline.quantization


@pytest.mark.parametrize("head_dim", [16, 48, 64, 80, 128])
def test_everything_that_is_left_runs(head_dim: int) -> None:
    space = small().fitted(head_dim)
    points = list(space.grid())
    for point in points:
        config = space.to_config(point)
        check_fits(config, head_dim=head_dim, context_tokens=4096)
        assert space.to_config(space.params_of(config)) == config
    assert len(points) > 10


def test_what_cannot_fit_is_dropped() -> None:
    fitted = small().fitted(80)
    assert list(fitted.parameters["low_rank.key_rank"].grid()) == [16, 32, 48, 64, 80]
    assert "quantization.value.group_size" not in fitted.parameters, "only 16 divides 80"
    assert "quantization.key.axis" not in fitted.parameters, "no key group divides 80, so keys go by channel"
    assert list(fitted.parameters["quantization.key.group_size"].grid()) == [32, 64, 128]


def test_a_method_without_a_fitting_value_goes() -> None:
    assert "quantization.method" not in small().fitted(68).parameters
    integer = deepcopy(DOCUMENT["stages"]["quantization"][1:])
    with pytest.raises(SpaceError, match=r"stages.quantization: no method fits head_dim 68"):
        small(quantization=integer).fitted(68)


def test_literature_is_adapted_and_says_so() -> None:
    assert set(small().fitted(128).literature) == {"wide"}
    adapted = small().fitted(64).literature
    assert set(adapted) == {"wide, fitted to head_dim 64"}
    assert integers(adapted["wide, fitted to head_dim 64"]).value.group_size == 64
    (whole,) = small().fitted(72).literature.values()
    assert integers(whole).value.group_size == 72
    assert small().fitted(68).literature == {}, "there is no integer quantization left"


def test_a_correction_of_nothing_becomes_nothing() -> None:
    point = {"quantization.method": "none", "low_rank.method": "residual"}
    with pytest.raises(ConfigError, match="residual"):
        small().to_config(point)
    assert small().fitted(64).to_config(point).pipeline.is_identity
    without = small(low_rank=[{"method": "residual", "key_rank": 4, "value_rank": 0}])
    with pytest.raises(ConfigError, match="residual"):
        without.fitted(64).to_config({"quantization.method": "none"})


def test_a_group_shrinks_to_the_latent_rank() -> None:
    config = (
        small()
        .fitted(64)
        .to_config(
            {
                "quantization.method": "integer",
                "quantization.key.axis": "token",
                "quantization.key.group_size": 64,
                "quantization.value.group_size": 64,
                "low_rank.method": "latent",
                "low_rank.key_rank": 32,
                "low_rank.value_rank": 32,
            }
        )
    )
    assert integers(config).key.group_size == 32
    assert integers(config).value.group_size == 16
