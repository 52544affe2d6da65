"""4-bit floats in blocks, and e4m3 in blocks: codes, scales and ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autokv.formats import MXFP4, MXFP8, NVFP4, FP4MXBlock16, UltraQuant
from autokv.formats.float4 import E2M1, BlockFloat, Tie, e2m1

BLOCKS: list[BlockFloat] = [NVFP4(), MXFP4(), FP4MXBlock16(), MXFP8(), UltraQuant(), UltraQuant(rotation="hadamard")]
POWERS = [form for form in BLOCKS if not isinstance(form, NVFP4)]


def sample(seed: int, head_dim: int = 64) -> Tensor:
    x = torch.randn(1, 2, 5, head_dim, generator=torch.Generator().manual_seed(seed)) ** 3
    x[0, 0, 3] = 0
    return x


def ramp() -> Tensor:
    """32 multiples of 1/16 from -50/16 to 49/16."""
    return ((torch.arange(32) * 37 % 101 - 50) / 16).reshape(1, 1, 1, 32)


@pytest.mark.parametrize(
    ("tie", "positive", "negative"),
    [
        ("even", [0, 1, 1, 2, 2, 4, 4], [0, 1, 1, 2, 2, 4, 4]),
        ("away", [0.5, 1, 1.5, 2, 3, 4, 6], [0.5, 1, 1.5, 2, 3, 4, 6]),
        ("down", [0, 0.5, 1, 1.5, 2, 3, 4], [0.5, 1, 1.5, 2, 3, 4, 6]),
    ],
)
def test_where_a_value_between_two_codes_goes(tie: Tie, positive: list[float], negative: list[float]) -> None:
    between = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    assert e2m1(between, tie).tolist() == positive
    assert e2m1(-between, tie).tolist() == [-each for each in negative]
    assert e2m1(torch.tensor([5.1, 9.0, -1e9]), tie).tolist() == [6, 6, -6]
    codes = torch.tensor([*E2M1, *(-each for each in E2M1)])
    assert torch.equal(e2m1(codes, tie), codes)


@given(seed=st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_nvfp4_against_ml_dtypes(seed: int) -> None:
    types = pytest.importorskip("ml_dtypes")
    x = sample(seed).numpy()
    blocks = x.reshape(-1, 16)
    layer = np.float32(0.02)
    wanted = np.abs(blocks).max(1, keepdims=True) / np.float32(6) / layer
    scale = np.minimum(wanted, 448).astype(types.float8_e4m3fn).astype(np.float32) * layer
    scaled = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale != 0)
    expected = np.clip(scaled, -6, 6).astype(types.float4_e2m1fn).astype(np.float32) * scale
    read = NVFP4(global_scale=0.02).round_trip(torch.from_numpy(x)).numpy().reshape(-1, 16)
    # The project multiplies by a reciprocal, as vLLM does: values next to a tie may fall on its other side.
    assert np.mean(~np.isclose(read, expected, rtol=1e-6)) < 0.01


@given(seed=st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_mxfp4_against_ml_dtypes(seed: int) -> None:
    types = pytest.importorskip("ml_dtypes")
    blocks = sample(seed).numpy().reshape(-1, 32)
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(np.abs(blocks).max(1, keepdims=True).astype(np.float64))) - 2
    scale = np.exp2(np.maximum(exponent, -127)).astype(types.float8_e8m0fnu).astype(np.float32)
    expected = np.clip(blocks / scale, -6, 6).astype(types.float4_e2m1fn).astype(np.float32) * scale
    assert np.array_equal(MXFP4().round_trip(torch.from_numpy(blocks).reshape(1, 2, 5, 64)).reshape(-1, 32), expected)


def test_the_scale_search_never_leaves_a_larger_error() -> None:
    x = sample(5)
    errors = [
        (NVFP4.model_validate({"scale_search": search}).round_trip(x) - x).reshape(-1, 16).norm(dim=1)
        for search in ("four_over_six", "largest")
    ]
    assert bool((errors[0] <= errors[1]).all())
    assert bool((errors[0] < errors[1]).any())


def test_the_layers_scale_of_nvfp4_is_given_or_measured() -> None:
    x = sample(2) * 1e-4
    measured = NVFP4(global_scale=None)
    assert not measured.per_token
    kept = measured.calibrated(x)
    assert kept.global_scale == pytest.approx(float(x.abs().max()) / 2688)
    assert kept.per_token
    assert torch.equal(kept.round_trip(x), measured.round_trip(x))
    # Block scales below 2⁻⁹ are zero.
    assert float((kept.round_trip(x) - x).norm()) < float((NVFP4().round_trip(x) - x).norm())
    assert not NVFP4(global_scale=None).round_trip(torch.zeros(1, 1, 2, 16)).any()


def test_ultraquant_reads_what_vllms_reference_reads() -> None:
    unrotated = [-3, -0.75, 1.5, -3, -0.25, 2, -2, 0.5, 3, -1.5, 1, -3, -0.75, 1.5, -2, 0]
    unrotated += [2, -1.5, 0.5, 3, -1, 1, -3, -0.5, 2, -2, 0.25, 2, -1.5, 0.75, 3, -1]
    assert UltraQuant().round_trip(ramp()).flatten().tolist() == unrotated
    rotated = UltraQuant(rotation="hadamard").round_trip(ramp()).flatten()
    expected = [-2.8726213, -0.8396895, 0.9280777, -1.9887377, -0.2209709, 1.8119611, -1.3700194, -0.0441941]
    assert rotated[:8].tolist() == pytest.approx(expected, abs=1e-5)


def test_fp4_mx_block16_reads_what_sglang_reads() -> None:
    expected = [-3, -1, 1.5, -3, 0, 2, -2, 0.5, 3, -1.5, 1, -3, -0.5, 1.5, -2, 0]
    expected += [2, -1.5, 0.5, 3, -1, 1.5, -3, -0.5, 2, -2, 0, 3, -1.5, 1, 3, -1]
    assert FP4MXBlock16().round_trip(ramp()).flatten().tolist() == expected


@pytest.mark.parametrize("form", [MXFP8(), FP4MXBlock16()], ids=lambda form: form.format)
@given(seed=st.integers(0, 9999))
@settings(max_examples=10, deadline=None)
def test_scales_that_are_rounded_up_saturate_nothing(form: BlockFloat, seed: int) -> None:
    x = sample(seed).reshape(1, 1, -1, form.block)
    half_step = {4: 1 / 4, 8: 1 / 16}[form.bits]
    error, largest = (form.round_trip(x) - x).abs(), x.abs().amax(-1, keepdim=True)
    # What is small beside the largest of its block falls on the subnormal grid, a quarter of the scale at most.
    assert bool((error <= x.abs() * half_step + largest / 12).all())
    assert bool((error <= x.abs() * half_step)[x.abs() == largest].all())


@pytest.mark.parametrize("form", POWERS, ids=str)
@given(seed=st.integers(0, 9999), exponent=st.integers(-6, 6))
@settings(max_examples=10, deadline=None)
def test_powers_of_two_commute(form: BlockFloat, seed: int, exponent: int) -> None:
    x = sample(seed)
    assert torch.equal(form.round_trip(x * 2.0**exponent), form.round_trip(x) * 2.0**exponent)


@pytest.mark.parametrize(
    ("form", "size"), [(NVFP4(), 36), (MXFP4(), 34), (FP4MXBlock16(), 36), (MXFP8(), 66), (UltraQuant(), 34)], ids=str
)
def test_bytes_have_a_byte_per_block(form: BlockFloat, size: int) -> None:
    assert form.nbytes(10, 3, 64) == 30 * size
    with pytest.raises(ValueError, match=f"multiple of {form.block} channels; these have 40"):
        form.check(40)


def test_ultraquants_queries_are_float8_in_the_keys_basis() -> None:
    query = sample(1)
    assert torch.equal(UltraQuant().query_round_trip(query), query.to(torch.float8_e4m3fn).float())
    rotated = UltraQuant(rotation="hadamard").query_round_trip(query)
    exact = query.norm(dim=-1)
    assert bool(((rotated.norm(dim=-1) - exact).abs() <= exact / 16 + 1e-6).all())
    assert torch.equal(NVFP4().query_round_trip(query), query)


def test_ultraquant_rotates_powers_of_two() -> None:
    UltraQuant().check(96)
    with pytest.raises(ValueError, match="power of two of channels; these have 96"):
        UltraQuant(rotation="hadamard").check(96)
