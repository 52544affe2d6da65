"""What a comparison says: gains where memory or bandwidth is short, and that nothing is gained where neither is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from autokv.errors import WorkloadError
from autokv.serving import SLO, CostModel, Curve, Grid, SequenceBytes, ServingOptions
from autokv.serving.compare import compare
from autokv.serving.rate import default_slo
from autokv.serving.simulator import SimulatedEngine
from autokv.workload import WorkloadTrace, synthesize

FULL_BYTES = 1000.0


def costs(per_token: float = FULL_BYTES, attention: float = 1e-8) -> CostModel:
    """Costs in which decode attention takes ``attention`` seconds a token held and everything else is fixed."""
    lengths, batches = (1.0, 1024.0, 8192.0), (1, 16)
    return CostModel(
        rest=Curve((1.0, 512.0, 2048.0), (0.002, 0.02, 0.08)),
        prefill_attention=Curve((256.0, 1024.0, 8192.0), (0.0002, 0.002, 0.1)),
        compress=Curve((1.0, 8192.0), (0.0, 0.0)),
        decode_attention=Grid(
            batches, tuple(Curve(lengths, tuple(batch * attention * x for x in lengths)) for batch in batches)
        ),
        sequence=SequenceBytes(per_token),
    )


def trace(rate: float = 4.0, requests: int = 300) -> WorkloadTrace:
    return synthesize(requests=requests, seed=3, requests_per_s=rate, input_tokens=(700, 2000), output_tokens=(60, 150))


def engines(capacity: float, attention: float = 1e-8) -> tuple[SimulatedEngine, SimulatedEngine]:
    """A cache of a quarter of the bytes and of the attention, and the 16-bit one."""
    full = SimulatedEngine("16-bit", costs(FULL_BYTES, attention), capacity)
    quarter = costs(FULL_BYTES / 4, attention / 4)
    return SimulatedEngine("K4V4", quarter, capacity), full


def test_with_memory_and_bandwidth_to_spare_nothing_is_bought() -> None:
    small, full = engines(capacity=1e9)
    found = compare(trace(), small, full)
    assert found.full is not None
    assert found.memory_short is False
    assert found.attention_share is not None
    assert found.attention_share < 0.1
    assert "does not help this workload" in found.verdict
    # The figures that say so.
    assert f"{found.full.report.peak_kv_bytes / 1e6:.3g} MB of 1 GB" in found.verdict
    assert f"{found.attention_share:.0%}" in found.verdict
    assert found.full.report.peak_kv_bytes < 1e9


def test_where_16_bits_are_short_of_memory_the_gain_is_named() -> None:
    small, full = engines(capacity=5e6)
    found = compare(trace(rate=14.0), small, full, slo=SLO(ttft_ms=500))
    assert found.memory_short
    assert found.full is not None
    gain = found.gain(found.full)
    assert gain.goodput is not None
    assert gain.goodput > 1.1
    assert gain.ttft_p95_ms is not None
    assert gain.ttft_p95_ms < 0
    # A request takes whole blocks: a quarter of the bytes holds four times as many up to that rounding.
    assert gain.concurrent_requests == pytest.approx(4, rel=0.02)
    assert "does not help" not in found.verdict
    assert f"{gain.goodput - 1:+.0%}" in found.verdict
    assert "compared with the 16-bit cache, which runs out of memory: 4× as many requests fit at once" in found.verdict


def test_where_nothing_is_within_the_slo_throughput_is_compared() -> None:
    verdict = compare(trace(rate=14.0), *engines(capacity=5e6), slo=SLO(ttft_ms=0.001)).verdict
    assert "goodput" not in verdict
    assert "throughput about the same" in verdict


def test_where_only_bandwidth_is_short_time_is_what_is_bought() -> None:
    small, full = engines(capacity=1e9, attention=5e-6)
    found = compare(trace(rate=1.0), small, full)
    assert found.memory_short is False
    assert found.attention_share is not None
    assert found.attention_share > 0.3
    assert "does not help" not in found.verdict
    assert "p50 TPOT -" in found.verdict


def test_a_candidate_that_is_no_faster_buys_nothing_where_memory_is_not_short() -> None:
    _, full = engines(capacity=1e9, attention=5e-6)
    slow = SimulatedEngine("slow", replace(full.costs, sequence=SequenceBytes(FULL_BYTES / 4)), 1e9)
    verdict = compare(trace(rate=1.0), slow, full).verdict
    assert "slow does not help this workload" in verdict
    assert "p50 TPOT about the same" in verdict


def test_the_concurrent_requests_are_those_that_the_blocks_hold() -> None:
    full = SimulatedEngine("16-bit", costs(), 1e6, ServingOptions(block_size=16))
    lengths = WorkloadTrace("two", "test", np.array([0.0, 1.0]), np.array([100, 33]), np.array([29, 1]))
    # 62 blocks; 128 and 33 tokens take 8 and 3.
    assert full.concurrent_requests(lengths) == pytest.approx(62 / 5.5)
    assert replace(full, output_length_ratio=2.0).concurrent_requests(lengths) == pytest.approx(62 / 6.5)


def test_a_request_that_never_fits_is_named_with_its_row() -> None:
    requests = trace(requests=20)
    requests.input_tokens[7] = 50_000
    small, full = engines(capacity=5e6)
    with pytest.raises(WorkloadError, match=r"request 8 by arrival: 50,000 input .* never fit into the 5 MB") as raised:
        compare(requests, small, full)
    assert "\n" not in str(raised.value)
    read = replace(requests, lines=np.arange(2, 22))
    with pytest.raises(WorkloadError, match="request 8 by arrival, line 9 of its file: "):
        compare(read, small, full)
    found = compare(requests, small, full, oversized="refuse")
    assert found.candidate.report.refused == 1


def test_a_prompt_that_only_waits_in_16_bits_is_told_of_the_chunks() -> None:
    requests = trace(requests=20)
    requests.input_tokens[7] = 6_000
    small, _ = engines(capacity=5e6)
    staged = replace(small, costs=replace(small.costs, sequence=SequenceBytes(FULL_BYTES / 4, 0.0, FULL_BYTES)))
    with pytest.raises(WorkloadError, match=r"several chunks .* \(--max-num-batched-tokens is 2,048\)"):
        compare(requests, staged)
    whole = replace(staged, options=ServingOptions(max_num_batched_tokens=8192))
    assert compare(requests, whole).candidate.report.refused == 0


def test_what_only_16_bits_cannot_hold_counts_for_the_candidate() -> None:
    requests = trace(requests=20)
    requests.input_tokens[7] = 10_000
    found = compare(requests, *engines(capacity=5e6))
    assert found.full is not None
    assert found.full.report.refused == 1
    assert found.memory_short
    assert "1 requests fit that never would" in found.verdict


def test_a_baseline_without_room_for_a_page_is_said_not_raised() -> None:
    small, full = engines(capacity=12_000)
    requests = WorkloadTrace("one", "test", np.array([0.0, 1.0]), np.array([8, 8]), np.array([4, 4]))
    found = compare(requests, small, full)
    assert found.full is None
    assert "less than a block" in found.impossible["16-bit"]
    assert "16-bit cannot serve here" in found.verdict


def test_without_baselines_the_candidate_stands_alone() -> None:
    small, _ = engines(capacity=5e6)
    found = compare(trace(), small)
    assert found.runs == (found.candidate,)
    assert found.memory_short is None
    assert "tokens/s" in found.verdict


def test_the_default_slo_is_five_times_an_idle_server_with_16_bits() -> None:
    small, full = engines(capacity=1e9)
    requests = trace()
    found = compare(requests, small, full)
    assert found.slo_is_default
    assert found.slo == default_slo(requests, full.costs)
    assert found.slo.ttft_ms == pytest.approx(
        5e3 * full.costs.prefill(int(np.ceil(np.percentile(requests.input_tokens, 95)))), rel=0.005
    )
    assert not compare(requests, small, full, slo=SLO(tpot_ms=20)).slo_is_default


def test_what_lies_outside_the_measured_range_is_said() -> None:
    small, full = engines(capacity=1e9)
    requests = trace(requests=50)
    assert not compare(requests, small, full).candidate.report.notes
    requests.input_tokens[3] = 20_000
    notes = compare(requests, small, full).candidate.report.notes
    assert any("2% of the prompts are longer than the 8,192 tokens" in note for note in notes)
    assert any("off by" in note for note in notes)
    predicted = replace(small, costs=replace(small.costs, predicted="scaled from another device"))
    assert "scaled from another device" in compare(requests, predicted, full).candidate.report.notes


def test_a_queue_without_end_is_said_and_one_that_empties_is_not() -> None:
    small, full = engines(capacity=1e9)
    for rate, grows in ((4.0, False), (200.0, True)):
        notes = compare(trace(rate), small, full).candidate.report.notes
        assert any("the queue grows" in note for note in notes) == grows


def test_the_document_is_json_without_nan() -> None:
    small, full = engines(capacity=5e6)
    found = compare(trace(requests=60), small, full, replace(full, name="fp8"), max_rate=True)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [run["name"] for run in document["runs"]] == ["K4V4", "16-bit", "fp8"]
    assert document["gains"]["16-bit"]["max_rate"] >= 1
    assert found.full is not None
    sustained = found.full.max_rate
    assert sustained is not None
    assert (
        f"against {sustained.requests_per_s:.3g} with 16 bits; requests arrive at"
        in compare(trace(requests=60), small, full, replace(small, name="fp8"), max_rate=True).verdict
    ), "a cache is not compared with itself"
    assert "sustains" in document["verdict"]


def test_points_that_were_drawn_on_are_not_measured() -> None:
    small, full = engines(capacity=1e9)
    drawn = replace(small.costs.prefill_attention, limit=1024.0)
    assert drawn.x[0] <= 1024 <= drawn.measured_to < 1025
    kept = CostModel.from_dict(replace(small.costs, prefill_attention=drawn).to_dict())
    assert kept.prefill_attention.scaled(2.0).limit == 1024
    found = compare(trace(requests=50), replace(small, costs=replace(small.costs, prefill_attention=drawn)), full)
    assert any("longer than the 1,024 tokens up to which prefill" in note for note in found.candidate.report.notes)


def test_fp8_is_not_compared_with_itself() -> None:
    small, full = engines(capacity=5e6)
    assert "compared with fp8" not in compare(trace(rate=14.0), small, full, replace(small, name="fp8")).verdict
    slower = replace(small, name="fp8", capacity_bytes=4.9e6, costs=replace(small.costs, rest=full.costs.rest))
    assert "as many requests fit at once" in compare(trace(rate=14.0), small, full, slower).verdict
