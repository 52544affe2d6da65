"""Synthesized traffic: arrival processes and lengths from stated distributions, or drawn from a real trace."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import MAX_TOKENS
from autokv.workload.trace import WorkloadTrace

P95_SIGMAS = 1.6448536269514722
"""The 95th percentile of a normal distribution, in standard deviations."""
GRID = 8192
"""Points of a period at which the expected arrivals are known; between them they are interpolated."""
MAX_REQUESTS = 20_000_000
"""More are refused: a trace takes 24 bytes a request and more while it is made."""
RUN = 32
"""Requests of a stretch that is drawn from a real trace, on average at least."""
RUN_S = 600.0
"""Seconds of such a stretch at least, so that minutes in which more or fewer come are kept."""
RUNS = 4
"""A real trace is cut into at least so many."""


class ArrivalProcess(Protocol):
    """Draws arrivals."""

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        """Ascending seconds, float64 [requests], from 0 on."""


@dataclass(frozen=True)
class Poisson:
    """Independent requests.

    Raises:
        WorkloadError: the rate is not a positive number.
    """

    requests_per_s: float

    def __post_init__(self) -> None:
        check_positive(self.requests_per_s, "rate")

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        return _from_gaps(rng.exponential(1 / self.requests_per_s, requests))


@dataclass(frozen=True)
class Gamma:
    """Gaps of a gamma distribution: burstier than Poisson for a ``cv`` above 1, more even below (BurstGPT, 2024).

    Raises:
        WorkloadError: the rate or the ``cv`` is not a positive number.
    """

    requests_per_s: float
    cv: float
    """Standard deviation of the gaps over their mean."""

    def __post_init__(self) -> None:
        check_positive(self.requests_per_s, "rate")
        check_positive(self.cv, "cv")

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        shape = self.cv**-2
        return _from_gaps(rng.gamma(shape, 1 / (shape * self.requests_per_s), requests))


@dataclass(frozen=True)
class Diurnal:
    """Poisson arrivals whose rate swings as a sine, from its mean at the start upwards.

    Raises:
        WorkloadError: the rate or the period is not a positive number, or the amplitude not between 0 and 1.
    """

    requests_per_s: float
    """Mean over a period."""
    period_s: float = 86400.0
    amplitude: float = 0.5
    """Share of the mean by which the rate rises and falls."""

    def __post_init__(self) -> None:
        check_positive(self.requests_per_s, "rate")
        check_positive(self.period_s, "period")
        if not 0 <= self.amplitude <= 1:
            raise WorkloadError(f"is {self.amplitude}", field="amplitude", remedy="give a number from 0 to 1")

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.float64]:
        """See :class:`ArrivalProcess`.

        Arrivals of rate 1 are drawn in units of expected arrivals, and taken back to seconds (Çınlar, 1975).
        """
        phase = np.linspace(0, 1, GRID + 1)
        swing = self.amplitude * (1 - np.cos(2 * math.pi * phase)) / (2 * math.pi)
        expected = self.requests_per_s * self.period_s * (phase + swing)
        whole, rest = np.divmod(np.cumsum(rng.exponential(1.0, requests)), expected[-1])
        seconds = self.period_s * (whole + np.interp(rest, expected, phase))
        return seconds - seconds[:1]


@dataclass(frozen=True)
class Lengths:
    """Tokens of a log-normal distribution, rounded, at least 1.

    Raises:
        WorkloadError: the figures are no percentiles of lengths.
    """

    median: float
    p95: float
    """95th percentile."""

    def __post_init__(self) -> None:
        if not 1 <= self.median <= self.p95 <= MAX_TOKENS:
            raise WorkloadError(
                f"{self.median:g} and {self.p95:g} are no median and 95th percentile",
                field="tokens",
                remedy=f"give two ascending numbers between 1 and {MAX_TOKENS:,}",
            )

    def draw(self, rng: np.random.Generator, requests: int) -> NDArray[np.int64]:
        """Independent lengths, int64 [requests]."""
        sigma = math.log(self.p95 / self.median) / P95_SIGMAS
        tokens = self.median * np.exp(sigma * rng.standard_normal(requests))
        return np.clip(np.rint(tokens), 1, MAX_TOKENS).astype(np.int64)


def generate(
    *,
    requests: int,
    arrivals: ArrivalProcess,
    input_tokens: Lengths,
    output_tokens: Lengths,
    seed: int = 0,
    name: str = "synthesized",
) -> WorkloadTrace:
    """A trace of stated distributions, lengths independent of each other and of time.

    The same arguments give the same trace (with the same NumPy).

    Raises:
        WorkloadError: ``requests`` is not between 1 and :data:`MAX_REQUESTS`.
    """
    _check_requests(requests)
    rng = np.random.default_rng(seed)
    return WorkloadTrace(
        name=name,
        format="synthesized",
        arrival_s=arrivals.draw(rng, requests),
        input_tokens=input_tokens.draw(rng, requests),
        output_tokens=output_tokens.draw(rng, requests),
    )


def resample(
    trace: WorkloadTrace,
    *,
    requests: int,
    seed: int = 0,
    arrivals: ArrivalProcess | None = None,
) -> WorkloadTrace:
    """As many ``requests`` as wanted, drawn from a real trace: each keeps its input and its output.

    Stretches of ten minutes are drawn from it, whatever comes in them (the circular block bootstrap of Politis and
    Romano, 1992, over time): longer ones where fewer than 32 requests come in that time, but at most a quarter of the
    trace. Their starts are spread evenly over the trace, so that rate, lengths and bursts of up to minutes stay as
    they are.
    With ``arrivals``, requests come as those say instead. Conversations and shared prefixes are not kept: repeated,
    they would be reused as nobody reuses them. The same arguments give the same trace (with the same NumPy).

    Raises:
        WorkloadError: ``requests`` is not between 1 and :data:`MAX_REQUESTS`.
    """
    _check_requests(requests)
    rng = np.random.default_rng(seed)
    # Without arrivals, neighbours are drawn together as if they came at even steps.
    clock = trace.arrival_s if trace.timed else np.arange(len(trace), dtype=np.float64)
    drawn, moments = _stretches(clock, requests, rng)
    if arrivals is not None:
        moments = arrivals.draw(rng, requests)
    elif not trace.timed:
        moments = np.zeros(requests)
    return WorkloadTrace("synthesized", "synthesized", moments, trace.input_tokens[drawn], trace.output_tokens[drawn])


def _stretches(
    clock: NDArray[np.float64], requests: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which requests are drawn, int64 [requests], and when they come, float64 [requests] from 0 on.

    Args:
        clock: ascending times of the real ones, from 0 on.
        requests: how many to draw.
        rng: of the stretches' starts.
    """
    count = len(clock)
    # Behind the last request there is a mean gap before the trace begins again.
    period = float(clock[-1]) * count / (count - 1) if count > 1 else 1.0
    length = min(max(RUN_S, RUN * period / count), period / RUNS)
    laps = np.concatenate([clock, clock + period])
    drawn, moments, found, begins = [], [], 0, 0.0
    while found < requests:
        stretches = math.ceil((requests - found) * period / (length * count)) + 1
        # One from each of as many parts of the trace, so that none is drawn much more often than another.
        starts = (rng.permutation(stretches) + rng.random(stretches)) * period / stretches
        first, beyond = np.searchsorted(laps, [starts, starts + length])
        counts = beyond - first
        # Every request's place in the laps: where its stretch begins, and how far behind that it lies.
        places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        own = begins + length * np.arange(stretches) - starts
        drawn.append(places % count)
        moments.append(laps[places] + np.repeat(own, counts))
        found, begins = found + len(places), begins + length * stretches
    kept = np.concatenate(moments)[:requests]
    return np.concatenate(drawn)[:requests], kept - kept[0]


def synthesize(
    *,
    requests: int,
    seed: int,
    requests_per_s: float,
    input_tokens: tuple[float, float],
    output_tokens: tuple[float, float],
) -> WorkloadTrace:
    """Poisson arrivals and log-normal lengths of the given (median, 95th percentile), with Python's own generator.

    Its numbers are the same in every version, which the trace that ships relies on; :func:`generate` can do more,
    faster.
    """
    rng = random.Random(seed)
    arrivals, inputs, outputs = [0.0], [], []
    for _ in range(requests):
        arrivals.append(arrivals[-1] + rng.expovariate(requests_per_s))
        inputs.append(_log_normal(rng, *input_tokens))
        outputs.append(_log_normal(rng, *output_tokens))
    arrival = np.array(arrivals[1:])
    return WorkloadTrace("synthesized", "synthesized", arrival - arrival[0], np.array(inputs), np.array(outputs))


def synthesize_example() -> WorkloadTrace:
    """The trace that ships as ``autokv/data/synthesized_trace.csv``: short chats, quick to evaluate."""
    return synthesize(requests=400, seed=20, requests_per_s=0.5, input_tokens=(700, 2000), output_tokens=(130, 450))


def _log_normal(rng: random.Random, median: float, p95: float) -> int:
    return max(1, round(median * math.exp(rng.gauss(0.0, math.log(p95 / median) / P95_SIGMAS))))


def _check_requests(requests: int) -> None:
    if not 1 <= requests <= MAX_REQUESTS:
        raise WorkloadError(f"is {requests}", field="requests", remedy=f"give 1 to {MAX_REQUESTS:,}")


def _from_gaps(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    moments: NDArray[np.float64] = np.cumsum(gaps)
    return moments - moments[:1]


def check_positive(value: float, field: str) -> None:
    """Raise a WorkloadError for what is no positive number."""
    if not 0 < value < math.inf:
        raise WorkloadError(f"is {value}", field=field, remedy="give a positive number")
