"""ONNX Runtime's symmetric integers with scales that are given, or measured once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from autokv.formats import StaticInt4, StaticInt8
from autokv.formats.static_integer import StaticInteger

KINDS = [StaticInt8, StaticInt4]


def sample(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 2, 6, 8)).astype(np.float32) * 3


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_codes_are_the_nearest_and_saturate(kind: type[StaticInteger], seed: int) -> None:
    x = sample(seed)
    top = 2 ** (kind.bits - 1)
    scales = np.random.default_rng(seed + 1).uniform(0.01, 0.6, (2, 8)).astype(np.float32)
    given_scales = tuple(tuple(map(float, head)) for head in scales)
    codes = np.clip(np.rint(x * (1 / scales[None, :, None])), -top, top - 1)
    form = kind.model_validate({"scale": given_scales})
    assert np.array_equal(form.round_trip(torch.from_numpy(x)).numpy(), codes * scales[None, :, None])
    single = kind.model_validate({"scaling": "tensor", "scale": 0.25}).round_trip(torch.from_numpy(x)).numpy()
    assert np.array_equal(single, np.clip(np.rint(x * 4), -top, top - 1) / 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["tensor", "channel"])
def test_calibration_keeps_the_prompts_scales(kind: type[StaticInteger], scaling: str) -> None:
    prompt = torch.from_numpy(sample(0))
    form = kind.model_validate({"scaling": scaling})
    assert not form.per_token
    kept = form.calibrated(prompt)
    assert kept.per_token
    assert torch.equal(kept.round_trip(prompt), form.round_trip(prompt))
    assert torch.allclose(kept.round_trip(prompt * 100).abs().max(), prompt.abs().max(), rtol=0.2)
    assert kind.model_validate_json(kept.model_dump_json()) == kept
    assert kept.calibrated(prompt * 2) == kept
    over = (0, 1, 2, 3) if scaling == "tensor" else (0, 2)
    largest = prompt.abs().amax(over, keepdim=True)
    assert bool(((form.round_trip(prompt) - prompt).abs() <= largest / (2**kind.bits - 2) * 1.0001).all())


def test_a_channel_of_zeros_stays_zero() -> None:
    x = torch.from_numpy(sample(0))
    x[..., 3] = 0
    assert not StaticInt8().round_trip(x)[..., 3].any()


def test_bytes_have_no_scales() -> None:
    assert StaticInt8().nbytes(10, 3, 65) == 10 * 3 * 65
    assert StaticInt4().nbytes(10, 3, 65) == 10 * 3 * 33


def test_scales_that_do_not_fit() -> None:
    form = StaticInt8(scale=((1.0, 2.0),))
    with pytest.raises(ValueError, match="scale has 2 channels, and the heads have 8"):
        form.check(8)
    with pytest.raises(ValueError, match="scale has 1 KV heads, and the layer has 2"):
        form.check(2, 2)
    with pytest.raises(ValidationError, match="scaling 'channel' should be a list of channels per KV head"):
        StaticInt8(scale=0.5)
    with pytest.raises(ValidationError, match="scaling 'tensor' should be one number"):
        StaticInt8(scaling="tensor", scale=((1.0,),))
    with pytest.raises(ValidationError, match="as many channels for each KV head"):
        StaticInt8(scale=((1.0, 2.0), (1.0,)))
