"""Costs on a device that is not here: identity, monotony, and the bounds by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.hardware import HardwareProfile, Rate, find
from autokv.serving import CostModel, Curve, Grid, SequenceBytes
from autokv.serving.cost_model import ModelShape
from autokv.serving.estimate import (
    ATTAINED_BANDWIDTH,
    ATTENTION_LAUNCHES,
    REST_LAUNCHES,
    Roofline,
    Scaling,
    Work,
    estimate,
)

SHAPE = ModelShape(
    parameters=1_000_000_000,
    weights_bytes=2_000_000_000,
    layers=16,
    query_heads=32,
    kv_heads=8,
    head_dim=64,
    dtype="bfloat16",
)
KV = 4 * 16 * 8 * 64
TOKENS = (128.0, 1024.0, 8192.0)
SECONDS = st.floats(1e-6, 10.0)
FACTORS = st.floats(0.01, 100.0)


def profile(name: str = "measured", bandwidth: float = 1000.0, arithmetic: float = 1e5) -> HardwareProfile:
    return HardwareProfile(
        name=name,
        kind="cuda",
        cores=100,
        memory_bytes=80 << 30,
        capabilities=(),
        torch_version="",
        threads=1,
        copy_gb_per_s=Rate(bandwidth, 0.0, 5),
        float32_gflops=Rate(arithmetic / 2, 0.0, 5),
        bfloat16_gflops=Rate(arithmetic, 0.0, 5),
        launch_us=Rate(5.0, 0.0, 5),
    )


@st.composite
def costs(draw: st.DrawFn) -> CostModel:
    """Any times at all, rising as a cost model's are."""

    def curve() -> Curve:
        return Curve(TOKENS, tuple(sorted(draw(st.tuples(SECONDS, SECONDS, SECONDS)))))

    first = curve()
    more = draw(st.floats(1.0, 4.0))
    return CostModel(
        rest=curve(),
        prefill_attention=curve(),
        compress=draw(st.sampled_from([Curve(TOKENS, (0.0, 0.0, 0.0)), curve()])),
        decode_attention=Grid((1, 8), (first, first.scaled(more))),
        sequence=SequenceBytes(draw(st.floats(1.0, KV))),
    )


def values(model: CostModel) -> list[float]:
    curves = (model.rest, model.prefill_attention, model.compress, *model.decode_attention.curves)
    return [y for curve in curves for y in curve.y]


def below(left: CostModel, right: CostModel) -> bool:
    return all(a <= b * (1 + 1e-9) for a, b in zip(values(left), values(right), strict=True))


@settings(max_examples=50, deadline=None)
@given(model=costs())
def test_the_same_device_is_left_alone(model: CostModel) -> None:
    here = profile()
    again = replace(here, copy_gb_per_s=Rate(900.0, 1.0, 7), torch_version="other")
    assert estimate(model, SHAPE, here, again) is model


@settings(max_examples=50, deadline=None)
@given(model=costs())
def test_another_device_with_equal_rates_costs_the_same(model: CostModel) -> None:
    found = estimate(model, SHAPE, profile(), profile("twin"))
    assert values(found) == pytest.approx(values(model), rel=1e-9)
    assert found.predicted is not None


@settings(max_examples=40, deadline=None)
@given(model=costs(), bandwidth=FACTORS, arithmetic=FACTORS, launch=FACTORS, gain=st.floats(1.0, 10.0))
def test_more_bandwidth_more_arithmetic_and_faster_launches_never_cost_more(
    model: CostModel, bandwidth: float, arithmetic: float, launch: float, gain: float
) -> None:
    target = profile("target", 1000 * bandwidth, 1e5 * arithmetic)
    target = replace(target, launch_us=Rate(5 * launch, 0.0, 5))
    found = estimate(model, SHAPE, profile(), target)
    for better in (
        replace(target, copy_gb_per_s=Rate(1000 * bandwidth * gain, 0.0, 5)),
        replace(target, bfloat16_gflops=Rate(1e5 * arithmetic * gain, 0.0, 5)),
        replace(target, launch_us=Rate(5 * launch / gain, 0.0, 5)),
    ):
        assert below(estimate(model, SHAPE, profile(), better), found)


@settings(max_examples=50, deadline=None)
@given(model=costs(), bandwidth=FACTORS, arithmetic=FACTORS)
def test_figures_stay_finite_rising_and_nothing_stays_nothing(
    model: CostModel, bandwidth: float, arithmetic: float
) -> None:
    found = estimate(model, SHAPE, profile(), profile("target", 1000 * bandwidth, 1e5 * arithmetic))
    for curve in (found.rest, found.prefill_attention, found.compress, *found.decode_attention.curves):
        assert all(0 <= y < 1e6 for y in curve.y)
        assert list(curve.y) == sorted(curve.y)
    assert (max(model.compress.y) == 0) == (max(found.compress.y) == 0)
    assert found.sequence == model.sequence


@settings(max_examples=50, deadline=None)
@given(
    seconds=SECONDS,
    work=st.builds(Work, st.floats(0.0, 1e12), st.floats(0.0, 1e15), st.integers(0, 10_000)),
    bandwidth=FACTORS,
    arithmetic=FACTORS,
    launch=FACTORS,
)
def test_a_time_is_launches_and_a_bound_at_the_efficiency_that_was_reached(
    seconds: float, work: Work, bandwidth: float, arithmetic: float, launch: float
) -> None:
    measured = Roofline(1e12, 1e14, 5e-6)
    target = Roofline(1e12 * bandwidth, 1e14 * arithmetic, 5e-6 * launch)
    scale = Scaling(measured, target)
    overhead, found = scale.overhead(seconds, work), scale(seconds, work)
    assert 0 <= overhead <= seconds * (1 + 1e-12)
    assert found >= overhead * launch * (1 - 1e-9), "never below its launches"
    bound = measured.bound(work)
    if bound and seconds > bound:
        assert found >= target.bound(work) * (1 - 1e-9), "an efficiency below 1 stays below 1"


def test_a_decode_step_follows_the_bandwidth_and_a_prompt_the_arithmetic() -> None:
    model = CostModel(
        rest=Curve((1.0, 16384.0), (0.010, 1.0)),
        prefill_attention=Curve((64.0, 8192.0), (1e-3, 0.5)),
        compress=Curve((64.0, 8192.0), (0.0, 0.0)),
        decode_attention=Grid((1,), (Curve((64.0, 8192.0), (1e-3, 4e-3)),)),
        sequence=SequenceBytes(KV),
    )
    here = profile(bandwidth=500.0, arithmetic=2e5)
    launches = 5e-6 * SHAPE.layers
    wide = estimate(model, SHAPE, here, replace(here, name="wide", copy_gb_per_s=Rate(1000.0, 0.0, 5)))
    kept = REST_LAUNCHES * launches
    assert wide.rest(1) == pytest.approx(kept + (0.010 - kept) / 2), "2 GB of weights: bound by memory"
    assert wide.rest(16384) == pytest.approx(1.0), "33 T operations: bound by arithmetic"
    kept = ATTENTION_LAUNCHES * launches
    assert wide.decode_attention(1, 8192) == pytest.approx(kept + (4e-3 - kept) / 2)
    fast = estimate(model, SHAPE, here, replace(here, name="fast", bfloat16_gflops=Rate(4e5, 0.0, 5)))
    assert fast.rest(1) == pytest.approx(0.010)
    assert fast.prefill_attention(8192) == pytest.approx(kept + (0.5 - kept) / 2)


def test_times_below_their_bound_keep_their_ratio_and_are_said() -> None:
    quick = CostModel(
        rest=Curve((1.0, 2.0), (0.001, 0.001)),  # 2 GB in a millisecond, at 1 TB/s
        prefill_attention=Curve((64.0,), (0.1,)),
        compress=Curve((64.0,), (0.0,)),
        decode_attention=Grid((1,), (Curve((64.0,), (0.1,)),)),
        sequence=SequenceBytes(KV),
    )
    found = estimate(quick, SHAPE, profile(), profile("slow", bandwidth=500.0))
    assert found.rest(1) == pytest.approx(0.002)
    assert "2 of 5 times are faster than their roofline bound here, by at most 2.0 times" in str(found.remark)


def test_like_is_compared_with_like() -> None:
    """A device that the catalog knows is compared by its own data sheet, another by what is usually attained."""
    model = CostModel(
        rest=Curve((1.0, 2.0), (0.1, 0.1)),
        prefill_attention=Curve((64.0,), (0.1,)),
        compress=Curve((64.0,), (0.0,)),
        decode_attention=Grid((1,), (Curve((64.0,), (0.1,)),)),
        sequence=SequenceBytes(KV),
    )
    h100, h200 = find("h100-sxm"), find("h200-sxm")
    measured = replace(
        h100,
        name="NVIDIA H100 80GB HBM3",
        source="measured",
        copy_gb_per_s=Rate(2900.0, 10.0, 9),
        launch_us=Rate(1e-6, 0, 9),
    )
    found = estimate(model, SHAPE, measured, h200)
    assert found.rest(1) == pytest.approx(0.1 * 3.35 / 4.8, rel=1e-3)
    assert found.predicted == (
        "Predicted for NVIDIA H200 SXM from times measured on NVIDIA H100 80GB HBM3 (132 cores): each scaled by its "
        "roofline bound at equal efficiency, with the data-sheet rates of both"
    )
    assert values(estimate(model, SHAPE, measured, h100)) == pytest.approx(values(model), rel=1e-3)
    unknown = replace(measured, name="H100 in the dark")
    found = estimate(model, SHAPE, unknown, h200)
    assert found.rest(1) == pytest.approx(0.1 * 2900 / (ATTAINED_BANDWIDTH * 4800), rel=1e-3)
    assert "85% of the bandwidth and 70% of the arithmetic of the data sheet of NVIDIA H200 SXM" in str(found.predicted)


def test_a_device_of_another_kind_has_launches_of_its_own_and_the_basis_says_so() -> None:
    cpu = replace(profile("two cores", 30.0, 200.0), kind="cpu", launch_us=Rate(1.0, 0.0, 5))
    model = CostModel(
        rest=Curve((1.0, 2.0), (0.2, 0.2)),
        prefill_attention=Curve((64.0,), (0.1,)),
        compress=Curve((64.0,), (0.0,)),
        decode_attention=Grid((1,), (Curve((64.0,), (0.1,)),)),
        sequence=SequenceBytes(KV),
        predicted="Guessed",
    )
    found = estimate(model, SHAPE, cpu, find("h100-sxm"))
    assert found.rest(1) > REST_LAUNCHES * SHAPE.layers * 5e-6
    assert "as if cuda kernels were as efficient as cpu kernels" in str(found.predicted)
    assert str(found.predicted).endswith("; before that: Guessed")
