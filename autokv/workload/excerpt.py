"""A shorter trace with the load of the whole: stretches from all over it, one behind the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autokv.workload.trace import WorkloadTrace
from autokv.workload.transform import with_rate

Ints = NDArray[np.int64]
STRETCHES = 16
"""Parts that a trace is cut into; each gives one stretch, so that its busy and its quiet hours have their share."""
PLACES = 33
"""Where in its part a stretch may begin: so many places are tried, for all stretches alike."""
QUANTILES = (50, 90, 99)
GAPS = (10, 100)
"""Bursts are compared over so many mean gaps between requests."""
WEIGHTS = {"rate": 1.0, "input tokens": 2.0, "output tokens": 2.0, "bursts": 0.5, "length": 0.5}
"""What a relative difference counts: means decide how many requests a second a server can take."""
FEW_WINDOWS = 10
"""Fewer say nothing of bursts."""


def excerpt(trace: WorkloadTrace, requests: int) -> tuple[WorkloadTrace, str]:
    """At most ``requests`` of a trace, and in words how well they stand for the whole; no words for all of them.

    The trace is cut into 16 parts with as many requests each, and every part gives one stretch of neighbours with
    their gaps (a systematic sample, Cochran, 1977, of stretches, which keeps bursts and slow changes of the load). All
    begin at the same place of their parts: of 33 places that one whose tokens per request, percentiles of lengths,
    rate and bursts are nearest to the whole trace's. In the end time is stretched by the few percent that give the
    whole trace's rate. A conversation that a stretch cuts is one of its own in each stretch.
    """
    if len(trace) <= requests:
        return trace, ""
    whole = _features(trace)
    tried = [_stretches(len(trace), requests, float(place)) for place in np.linspace(0.0, 1.0, PLACES)]
    chosen = min(tried, key=lambda one: _distance(_features(_joined(trace, *one)), whole))
    found = _joined(trace, *chosen)
    said = _words(trace, found, len(chosen[0]), _ratios(_features(found), whole), _cut(trace, *chosen))
    rate = trace.summary().requests_per_s
    return found if rate is None or not found.timed else with_rate(found, rate), said


def _stretches(count: int, requests: int, place: float) -> tuple[Ints, Ints]:
    """Where stretches begin, ``place`` (0 to 1) of the room that their parts leave them, and their requests."""
    stretches = min(STRETCHES, requests)
    sizes, rooms = (_even(total, stretches) for total in (requests, count - requests))
    parts: Ints = np.cumsum(sizes + rooms) - sizes - rooms
    return parts + np.floor(place * rooms).astype(np.int64), sizes


def _even(total: int, parts: int) -> Ints:
    """``total`` in whole ``parts`` that are as equal as can be."""
    edges = np.linspace(0, total, parts + 1).astype(np.int64)
    return edges[1:] - edges[:-1]


def _kept(starts: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """The requests, and in which stretch each is."""
    number = np.repeat(np.arange(len(starts)), sizes)
    return np.arange(sizes.sum()) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes), number


def _joined(trace: WorkloadTrace, starts: Ints, sizes: Ints) -> WorkloadTrace:
    """The stretches, one behind the other."""
    kept, number = _kept(starts, sizes)
    # A stretch lasts until the next request comes that is not in it.
    clock = np.append(trace.arrival_s, trace.arrival_s[-1])
    lasts = clock[starts + sizes] - clock[starts]
    begins = np.cumsum(lasts) - lasts
    part = trace.take(kept)
    session = part.session
    if session is not None:
        session = np.unique(session, return_inverse=True)[1] * len(starts) + number
    # Ascending, whatever was rounded.
    moments = np.maximum.accumulate(part.arrival_s + (begins - clock[starts])[number])
    return replace(part, arrival_s=moments, session=session)


def _cut(trace: WorkloadTrace, starts: Ints, sizes: Ints) -> tuple[int, int]:
    """Conversations that are not in one stretch whole, and all that are in any."""
    if trace.session is None:
        return 0, 0
    conversations = np.unique(trace.session, return_inverse=True)[1]
    kept, number = _kept(starts, sizes)
    pieces, held = np.unique(conversations[kept] * len(starts) + number, return_counts=True)
    owners = pieces // len(starts)
    return len(np.unique(owners[held < np.bincount(conversations)[owners]])), len(np.unique(owners))


def _features(trace: WorkloadTrace) -> dict[str, float]:
    """What two traces are compared by."""
    found = {"input tokens": float(trace.input_tokens.mean()), "output tokens": float(trace.output_tokens.mean())}
    for name, tokens in (("input", trace.input_tokens), ("output", trace.output_tokens)):
        for quantile, value in zip(QUANTILES, np.percentile(tokens, QUANTILES), strict=True):
            found[f"length p{quantile} {name}"] = float(value)
    if trace.timed:
        found["rate"] = len(trace) / float(trace.arrival_s[-1])
        for gaps in GAPS:
            found[f"bursts {gaps}"] = _dispersion(trace.arrival_s, gaps / found["rate"])
    return found


def _dispersion(arrival_s: NDArray[np.float64], window_s: float) -> float:
    """Variance over mean of the requests in a window; 0 where there are too few windows."""
    windows = int(arrival_s[-1] // window_s)
    if windows < FEW_WINDOWS:
        return 0.0
    within = arrival_s[arrival_s < windows * window_s]
    counts = np.bincount((within / window_s).astype(np.int64), minlength=windows)
    return float(counts.var() / counts.mean())


def _ratios(found: Mapping[str, float], whole: Mapping[str, float]) -> dict[str, float]:
    return {name: found[name] / value for name, value in whole.items() if value > 0 and found.get(name, 0.0) > 0}


def _distance(found: Mapping[str, float], whole: Mapping[str, float]) -> float:
    weights = {name: next(weight for kind, weight in WEIGHTS.items() if name.startswith(kind)) for name in whole}
    return sum(weights[name] * abs(math.log(ratio)) for name, ratio in _ratios(found, whole).items())


def _words(
    trace: WorkloadTrace, found: WorkloadTrace, stretches: int, ratios: Mapping[str, float], cut: tuple[int, int]
) -> str:
    lengths = max(abs(ratio - 1) for name, ratio in ratios.items() if name.startswith("length"))
    bursts = " and ".join(f"{ratio:.2f}" for name, ratio in ratios.items() if name.startswith("bursts"))
    return (
        f"{len(found):,} of {len(trace):,} requests, {stretches} stretches from all over the trace, with "
        f"{ratios['input tokens']:.2f} times its mean input and {ratios['output tokens']:.2f} times its mean output "
        f"(percentiles of lengths differ by up to {lengths:.0%})"
        + (f" and {bursts} times its dispersion of arrivals" if bursts else "")
        + (f"; {cut[0]:,} of {cut[1]:,} conversations are cut" if cut[0] else "")
    )
