"""quanto and HQQ against the packages, through transformers' own cache layers."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from autokv.formats import FP8E4M3, HQQ, Quanto


def sample(tokens: int = 64, head_dim: int = 64) -> Tensor:
    x = torch.randn(1, 2, tokens, head_dim, generator=torch.Generator().manual_seed(0)) ** 3
    x[0, 0, 3] = 0
    x[0, 1, 5] = 1.25
    return x


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("head_dim", [64, 96])
def test_quanto_bit_for_bit(bits: int, axis: int, head_dim: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("optimum.quanto")
    from transformers.cache_utils import QuantoQuantizedLayer

    x = sample(64, head_dim)
    layer = QuantoQuantizedLayer(nbits=bits, axis_key=axis, axis_value=axis)
    stored = layer._quantize(x, axis=axis)
    form = Quanto.model_validate({"bits": bits, "axis": axis})
    assert torch.equal(form.round_trip(x), layer._dequantize(stored))
    assert form.nbytes(64, 2, head_dim) == x.numel() * bits // 8 + 2 * (stored._scale.numel() + stored._shift.numel())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_hqq_bit_for_bit(bits: int, axis: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("hqq.core.quantize")
    from transformers.cache_utils import HQQQuantizedLayer

    x = sample()
    layer = HQQQuantizedLayer(nbits=bits, axis_key=axis, axis_value=axis)
    layer.lazy_initialization(x, x)
    stored, meta = layer._quantize(x, axis=axis)
    form = HQQ.model_validate({"bits": bits, "axis": axis})
    assert torch.allclose(form.round_trip(x), layer._dequantize((stored, meta)), rtol=1e-6, atol=1e-7)
    assert form.nbytes(64, 2, 64) == stored.numel() + 2 * (meta["scale"].numel() + meta["zero"].numel())


def test_fp8_is_transformers_own() -> None:
    from transformers import cache_utils

    layer_type = getattr(cache_utils, "Fp8QuantizedLayer", None)
    if layer_type is None:
        pytest.skip("this transformers has no fp8 cache")
    layer = layer_type.__new__(layer_type)
    layer.dtype = torch.float32
    x = sample()
    assert torch.equal(FP8E4M3(scaling="tensor").round_trip(x), layer._dequantize(layer._quantize(x)))


def test_quanto_axes_group_channels_of_a_token_or_tokens_of_a_channel() -> None:
    x = sample(64, 64)
    by_channel = Quanto(bits=4, axis=-1).round_trip(x)
    by_token = Quanto(bits=4, axis=0).round_trip(x)
    assert torch.allclose(by_channel, Quanto(bits=4, axis=0).round_trip(x.transpose(2, 3).contiguous()).transpose(2, 3))
    assert not torch.equal(by_channel, by_token)


@pytest.mark.parametrize("form", [Quanto(bits=2), HQQ(bits=2, axis=1)], ids=str)
def test_zeros_are_exact_and_error_is_within_a_step(form: Quanto | HQQ) -> None:
    assert not form.round_trip(torch.zeros(1, 1, 4, 64)).any()
    x = sample()
    step = (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)) / 3
    share = 0.5001 if isinstance(form, Quanto) else 1.0
    assert float(((form.round_trip(x) - x).abs() / step.clamp(min=1e-6)).quantile(0.99)) <= share


def test_numbers_that_do_not_come_out_even() -> None:
    with pytest.raises(ValueError, match="quanto needs a multiple of group_size 64; these are 1990"):
        Quanto(bits=4, axis=-1).round_trip(torch.zeros(1, 2, 995, 64))
    with pytest.raises(ValueError, match="quanto needs a multiple"):
        Quanto(bits=4).nbytes(1, 1, 80)
    with pytest.raises(ValueError, match="hqq packs 4 rows of groups into one byte, and 3 do not come out even"):
        HQQ(bits=2, axis=1).round_trip(torch.zeros(1, 1, 3, 64))
    assert not Quanto(bits=4).per_token
    assert not HQQ(bits=4).per_token
