"""The simulator against sums made by hand, and against itself one iteration at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.errors import RequestError
from autokv.serving import SLO, CostModel, Curve, Grid, KVMemory, SequenceBytes, ServingOptions, Step, serve, simulate
from autokv.serving.simulator import PredictedExecutor
from autokv.workload import PrefixBlocks, WorkloadTrace

PLENTY = 1e12


def trace_of(arrivals: list[float], inputs: list[int], outputs: list[int]) -> WorkloadTrace:
    return WorkloadTrace("t", "test", np.array(arrivals, dtype=float), np.array(inputs), np.array(outputs))


def test_a_lone_request_takes_the_sum_of_its_parts(costs: CostModel) -> None:
    outcome = simulate(trace_of([0.0], [300], [4]), costs, PLENTY)
    prefill = 0.01 + 300e-4 + (0.001 + 0.099 * 200 / 900) + (0.001 + 0.01 * 299 / 1000)
    decode = sum(0.01 + 1e-4 + held * 1e-7 for held in (300, 301, 302))
    assert outcome.first_token_s[0] == pytest.approx(prefill)
    assert outcome.finish_s[0] == pytest.approx(prefill + decode)
    assert outcome.iterations == 4
    report = outcome.report(SLO(ttft_ms=1e3 * prefill + 1))
    assert report.ttft_ms["p50"] == pytest.approx(1e3 * prefill)
    assert report.tpot_ms["mean"] == pytest.approx(1e3 * decode / 3)
    assert report.slo_attainment == 1
    assert outcome.report(SLO(ttft_ms=1e3 * prefill - 1)).slo_attainment == 0


def test_a_prompt_is_cut_into_chunks_beside_those_who_decode(costs: CostModel) -> None:
    options = ServingOptions(max_num_batched_tokens=101, max_num_seqs=10)
    outcome = simulate(trace_of([0.0, 0.0], [1, 250], [9, 1]), costs, PLENTY, options)
    # 1 and 100 tokens; then 1 that decodes and 100, 1 and the last 50.
    assert outcome.iterations == 9
    first = 0.01 + 101e-4 + 0.001 + 0.001
    assert outcome.first_token_s[0] == pytest.approx(first)
    second = 0.01 + 101e-4 + 0.099 * 100 / 900 + 1e-7
    third = 0.01 + 51e-4 + 0.099 * 50 / 900 + (0.001 + 0.01 * 249 / 1000) + 2e-7
    assert outcome.first_token_s[1] == pytest.approx(first + second + third)
    assert outcome.finish_s[1] == outcome.first_token_s[1]


def test_swapping_costs_the_link_and_recomputing_a_prefill(costs: CostModel) -> None:
    # 12 blocks of 16 tokens for two requests of 64 + 63 tokens each: the second must give way.
    trace = trace_of([0.0, 0.0], [64, 64], [64, 64])
    capacity = 12 * 16 * 100.0
    swap = ServingOptions(preemption="swap")
    slow = simulate(trace, costs, capacity, swap, link_gb_per_s=1e-6)
    fast = simulate(trace, costs, capacity, swap, link_gb_per_s=1e6)
    again = simulate(trace, costs, capacity)
    assert slow.preemptions.tolist() == fast.preemptions.tolist() == again.preemptions.tolist() == [0, 1]
    # 96 tokens of 100 bytes go out and come back at 1 kB/s.
    assert slow.finish_s[1] - fast.finish_s[1] == pytest.approx(2 * 96 * 100 / 1e3, rel=1e-6)
    assert again.iterations == fast.iterations
    assert again.finish_s[1] > fast.finish_s[1]
    with pytest.raises(RequestError, match=r"preemption: .*; use recompute"):
        simulate(trace, costs, capacity, swap)


def test_a_shared_prefix_is_computed_and_held_once(costs: CostModel) -> None:
    blocks = PrefixBlocks(32, np.array([0, 4, 8]), np.array([1, 2, 3, 4, 1, 2, 3, 9]))
    trace = replace(trace_of([0.0, 9.0], [128, 128], [400, 10]), prefixes=blocks)
    plain = simulate(trace, costs, PLENTY)
    cached = simulate(trace, costs, PLENTY, ServingOptions(prefix_caching=True))
    assert cached.cached_tokens.tolist() == [0, 96]
    assert plain.cached_tokens.tolist() == [0, 0]
    # The second prompt computes 32 tokens instead of 128.
    spared = 96e-4 + (0.001 + 0.099 * 28 / 900) - (0.099 * 28 / 900 + 0.001 - 0.001 * 95 / 99)
    assert plain.ttft_s[1] - cached.ttft_s[1] == pytest.approx(spared, rel=0.05)
    together = replace(trace, arrival_s=np.array([0.0, 1.0]), output_tokens=np.array([150, 10]))
    peaks = [simulate(together, costs, PLENTY, ServingOptions(prefix_caching=on)).peak_kv_bytes for on in (False, True)]
    assert peaks[0] - peaks[1] == pytest.approx(3 * 2 * 16 * 100)


def test_prefix_caching_needs_hashes_and_whole_blocks(costs: CostModel) -> None:
    with pytest.raises(RequestError, match="prefix_caching: needs block hashes"):
        simulate(trace_of([0.0], [8], [2]), costs, PLENTY, ServingOptions(prefix_caching=True))
    blocks = PrefixBlocks(24, np.array([0, 1]), np.array([1]))
    trace = replace(trace_of([0.0], [30], [2]), prefixes=blocks)
    with pytest.raises(RequestError, match=r"block_size: .*; give a divisor of 24"):
        simulate(trace, costs, PLENTY, ServingOptions(prefix_caching=True))


def test_shortest_first_lets_the_short_pass(costs: CostModel) -> None:
    trace = trace_of([0.0, 0.0, 0.0], [900, 800, 10], [2, 2, 2])
    options = ServingOptions(max_num_seqs=1)
    assert np.argsort(simulate(trace, costs, PLENTY, options).finish_s).tolist() == [0, 1, 2]
    shortest = simulate(trace, costs, PLENTY, replace(options, order="shortest_first"))
    assert np.argsort(shortest.finish_s).tolist() == [2, 1, 0]


def test_longer_answers_take_longer(costs: CostModel) -> None:
    trace = trace_of([0.0], [100], [40])
    stretched = simulate(trace, costs, PLENTY, output_length_ratio=1.25)
    assert stretched.output_tokens.tolist() == [50]
    assert stretched.finish_s[0] > simulate(trace, costs, PLENTY).finish_s[0]


def test_what_never_fits_is_refused_and_the_rest_served(costs: CostModel) -> None:
    outcome = simulate(trace_of([0.0, 1.0, 2.0], [100, 5000, 100], [5, 5, 5]), costs, 2000 * 100.0)
    assert outcome.served.tolist() == [True, False, True]
    report = outcome.report(SLO(ttft_ms=1e6))
    assert report.refused == 1
    assert report.slo_attainment == pytest.approx(2 / 3)


def test_no_memory_for_a_page_says_so(costs: CostModel) -> None:
    with pytest.raises(RequestError, match=r"memory: .*less than a block; "):
        simulate(trace_of([0.0], [10], [5]), costs, 1000.0)


class OneByOne(PredictedExecutor):
    """Never runs equal iterations at once."""

    def run(self, step: Step, until: float) -> tuple[int, float]:
        ran, seconds = super().run(replace(step, repeats=1), until)
        assert ran == 1
        return ran, seconds


knots = st.lists(st.integers(1, 400), min_size=1, max_size=4, unique=True).map(sorted)
rises = st.lists(st.floats(0.0, 0.01), min_size=4, max_size=4)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    x = draw(knots)
    return Curve(tuple(map(float, x)), tuple(0.001 + np.cumsum(draw(rises))[: len(x)]))


@st.composite
def cost_models(draw: st.DrawFn) -> CostModel:
    x = draw(knots)
    low = np.cumsum(draw(rises))[: len(x)]
    high = low + np.cumsum(draw(rises))[: len(x)]
    grid = Grid((1, 4), tuple(Curve(tuple(map(float, x)), tuple(map(float, y))) for y in (low, high)))
    return CostModel(draw(curves()), draw(curves()), draw(curves()), grid, SequenceBytes(10.0))


requests = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.2]), st.integers(1, 300), st.integers(1, 200)), min_size=1, max_size=12
)


@settings(max_examples=150, deadline=None)
@given(cost_models(), requests)
def test_equal_iterations_at_once_take_as_long_as_one_by_one(
    costs: CostModel, rows: list[tuple[float, int, int]]
) -> None:
    gaps, inputs, outputs = zip(*rows, strict=True)
    trace = trace_of((np.cumsum(gaps) - gaps[0]).tolist(), list(inputs), list(outputs))
    memory, options = KVMemory(2000 * 10.0, costs.sequence, 16), ServingOptions(max_num_batched_tokens=256)
    fast = serve(trace, memory, PredictedExecutor(costs), options)
    slow = serve(trace, memory, OneByOne(costs), options)
    if len(rows) == 1:
        np.testing.assert_allclose(fast.finish_s, slow.finish_s, rtol=1e-9)
    # An arrival at the end of an iteration, but for rounding, may be admitted one iteration earlier or later.
    assert fast.duration_s == pytest.approx(slow.duration_s, rel=0.05)
    assert fast.served.tolist() == slow.served.tolist()


@given(curves(), st.floats(0, 1000), st.floats(0, 1000))
def test_curves_rise_and_meet_their_points(curve: Curve, one: float, other: float) -> None:
    assert [curve(x) for x in curve.x] == pytest.approx(list(curve.y))
    low, high = sorted((one, other))
    assert curve(low) <= curve(high) + 1e-12


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=1, max_size=30))
def test_a_fit_rises_whatever_the_noise(points: list[tuple[int, float]]) -> None:
    curve = Curve.fit(points)
    assert list(curve.x) == sorted({float(x) for x, _ in points})
    assert all(a <= b + 1e-12 for a, b in zip(curve.y, curve.y[1:], strict=False))
    assert min(y for _, y in points) - 1e-12 <= curve.y[0]
    assert curve.y[-1] <= max(y for _, y in points) + 1e-12


def test_the_error_beyond_the_range_is_how_the_last_point_was_missed() -> None:
    assert Curve((1, 2, 3), (1.0, 2.0, 3.0)).error == 0
    assert Curve((1, 2, 3), (1.0, 2.0, 4.0)).error == pytest.approx(0.25)
    assert Curve((1, 2), (1.0, 2.0)).error == 1
    assert Curve((1, 2), (1.0, 2.0)).measured_to < 2.5


def test_grids_are_linear_between_and_beyond_batches() -> None:
    grid = Grid.fit([(1, 10, 1.0), (1, 20, 2.0), (3, 10, 2.0), (3, 20, 4.0)])
    assert grid(2, 10) == pytest.approx(1.5)
    assert grid(5, 20) == pytest.approx(6.0)
    assert grid(1, 15) == pytest.approx(1.5)
    assert Grid.fit([(2, 10, 1.0), (2, 20, 2.0)])(4, 10) == pytest.approx(2.0)


def test_costs_and_their_parts_survive_json(costs: CostModel) -> None:
    assert CostModel.from_dict(costs.to_dict()) == costs
