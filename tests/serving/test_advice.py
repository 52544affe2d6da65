"""What would have to change: each piece of advice is held against a simulation under the conditions that it names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from autokv.serving import SLO, CostModel, Curve, Grid, SequenceBytes
from autokv.serving.advice import Advisor
from autokv.serving.rate import max_sustainable_rate
from autokv.serving.simulator import SimulatedEngine
from autokv.workload import WorkloadTrace, synthesize
from autokv.workload.transform import scale_lengths

SLO_ = SLO(ttft_ms=2000, tpot_ms=100)


def costs(per_token: float, attention: float) -> CostModel:
    lengths = (1.0, 8192.0)
    curves = tuple(Curve(lengths, tuple(batch * attention * x for x in lengths)) for batch in (1, 16))
    return CostModel(
        rest=Curve((1.0, 2048.0), (0.01, 0.04)),
        prefill_attention=Curve((256.0, 8192.0), (0.0002, 0.1)),
        compress=Curve((1.0, 8192.0), (0.0, 0.0)),
        decode_attention=Grid((1, 16), curves),
        sequence=SequenceBytes(per_token),
    )


def advisor(capacity: float, *, attention: float = 1e-8, saving: float = 1.0, context: int | None = None) -> Advisor:
    """A cache of a quarter of the bytes, whose attention takes ``saving`` times what that of 16 bits does."""
    full = SimulatedEngine("16-bit", costs(1000.0, attention), capacity)
    candidate = SimulatedEngine("K4V4", costs(250.0, attention * saving), capacity)
    return Advisor(trace(), candidate, full, SLO_, context)


def trace() -> WorkloadTrace:
    return synthesize(requests=150, seed=3, requests_per_s=4.0, input_tokens=(700, 2000), output_tokens=(60, 150))


def gain(found: Advisor, memory: float, requests: WorkloadTrace | None = None) -> float:
    rates = [
        max_sustainable_rate(requests or found.trace, replace(one, capacity_bytes=memory).serve, SLO_).requests_per_s
        for one in (found.candidate, found.full)
    ]
    return rates[0] / rates[1] - 1


def memory_in(text: str) -> float:
    found = re.search(r"With ([\d.]+) ([kMGT]?B) for KV caches", text)
    assert found is not None, text
    return float(found[1]) * {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[found[2]]


def test_where_memory_is_short_it_says_how_much_would_be_enough() -> None:
    found = advisor(5e6)
    assert gain(found, 5e6) > 0.05
    (text,) = found.advice()
    enough = memory_in(text)
    assert text.endswith("instead of 5 MB, 16 bits sustain as many requests/s")
    assert gain(found, 1.02 * enough) <= 0.05 < gain(found, enough / 1.3)


def test_where_it_is_not_it_says_how_little_would_make_it_pay() -> None:
    found = advisor(1e10)
    assert gain(found, 1e10) <= 0.05
    less, load, longer = found.advice()
    little = memory_in(less)
    assert "% more requests/s" in less
    assert gain(found, little / 1.02) > 0.05 >= gain(found, 1.3 * little)
    assert re.search(r"it sustains [\d.]+ requests/s, 16 bits [\d.]+$", load)
    assert longer == "Compression does not help longer requests, up to 8 times as long"
    assert gain(found, 1e10, scale_lengths(trace(), 8.0)) <= 0.05


def test_longer_requests_are_tried_as_far_as_the_model_goes() -> None:
    longest = int((trace().input_tokens + trace().output_tokens).max())
    found = advisor(1.5e8, context=4 * longest)
    *_, longer = found.advice()
    told = re.search(r"requests ([\d.]+) times as long", longer)
    assert told is not None
    factor = float(told[1])
    assert gain(found, 1.5e8, scale_lengths(trace(), factor)) > 0.05
    assert factor == 2.0
    *_, none = advisor(1.5e8, context=longest).advice()
    assert none == f"Requests cannot be much longer: the model's context ends at {longest:,} tokens"


def test_what_is_faster_pays_with_any_memory() -> None:
    (text,) = advisor(5e6, attention=3e-6, saving=0.2).advice()
    assert text.startswith("It pays with up to 1024 times as much memory too")


@pytest.mark.parametrize("capacity", [16_000.0, 100_000.0])
def test_where_16_bits_serve_nothing_the_memory_that_they_need_is_named(capacity: float) -> None:
    found = advisor(capacity)
    texts = found.advice()
    assert all("nan" not in text and "inf" not in text for text in texts)
