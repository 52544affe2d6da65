"""How many requests a second an engine can take, and the limits that it is held to where a user gives none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autokv.errors import RequestError
from autokv.serving.comparison import SustainableRate
from autokv.serving.cost_model import CostModel
from autokv.serving.engine_options import SLO
from autokv.serving.outcome import Outcome
from autokv.serving.simulator import SimulatedEngine
from autokv.workload import WorkloadTrace
from autokv.workload.excerpt import excerpt
from autokv.workload.transform import SHORTEST_S, repeated, with_rate

Serve = Callable[[WorkloadTrace], Outcome]

ATTAINMENT = 0.9
"""Share of requests that must be within the SLO for a rate to be sustained (DistServe, 2024)."""
REQUESTS = 4000
"""Requests that a rate is tried on; of a longer trace as many from all over it."""
HALVINGS = 10
"""A rate below the engine's capacity by more halvings than this is not looked for."""
BISECTIONS = 6
"""Of an octave: the rate is found to within 1.1%."""
SLACK = 5.0
"""The default SLO allows this many times what an idle engine takes."""
ENOUGH = 4
"""Times as many requests as run at once that a capacity is found from."""
EDGE = 0.25
"""Share of the requests at either end, at most, left out where an engine is timed: it fills up or runs empty."""


def max_sustainable_rate(
    trace: WorkloadTrace, serve: Serve, slo: SLO | None = None, *, attainment: float = ATTAINMENT
) -> SustainableRate:
    """The highest rate at which a share ``attainment`` of the requests is within ``slo`` and the queue is stable.

    Arrivals are stretched or squeezed in time, which keeps their pattern; of a trace with more than 4000 requests,
    those of an excerpt that has its load (:func:`~autokv.workload.excerpt.excerpt`). No rate is sustained above what
    the engine completes when all requests are there from the start (the saturation rule; Baccelli and Foss, 1995),
    which is the answer where there is no SLO. Below it, rates are halved until the SLO is kept, and the last octave is
    bisected: 20 simulations at most.

    In a closed loop (:mod:`autokv.serving.closed_loop`), the starts of conversations and the delays between turns are
    stretched alike. The capacity is then what is completed when every conversation is there from the start and nobody
    thinks, and the rate is the one at which requests really come, since turns that wait come later.

    Args:
        trace: the requests; their own rate does not matter.
        serve: simulates a trace.
        slo: what a request must keep.
        attainment: share of requests that must keep it.

    Raises:
        RequestError: all requests of the trace arrive at once, or none can be served.
    """
    if not trace.timed:
        raise RequestError(
            "a trace whose requests all arrive at once has no rate to change",
            field="workload",
            remedy="give it arrivals with --rate, or take a trace with timestamps",
        )
    part, sample = excerpt(trace, REQUESTS)
    simulations = 0

    def counted(requests: WorkloadTrace) -> Outcome:
        nonlocal simulations
        simulations += 1
        return serve(requests)

    capacity = _capacity(_saturated(part, counted))
    if not capacity:
        raise RequestError("no request fits into memory", field="memory", remedy="take a device with more")
    if slo is None:
        return SustainableRate(capacity, capacity, None, len(part), simulations, sample=sample)
    tried: dict[float, float] = {}
    real: dict[float, float] = {}

    def kept(rate: float) -> bool:
        offered = with_rate(part, rate)
        outcome = counted(offered)
        tried[rate] = float(outcome.good(slo).mean())
        real[rate] = rate * (_span(offered.arrival_s) / _span(outcome.arrival_s))
        return tried[rate] >= attainment

    low = capacity
    while not kept(low):
        low /= 2
        if low < capacity / 2**HALVINGS:
            return SustainableRate(0.0, capacity, tried[low * 2], len(part), simulations, True, sample)
    if low < capacity:
        high = 2 * low
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)
            if kept(middle):
                low = middle
            else:
                high = middle
    return SustainableRate(
        real[low], capacity, tried[low], len(part), simulations, limited_by_slo=low < capacity, sample=sample
    )


def sustained_rate(trace: WorkloadTrace, engine: SimulatedEngine, slo: SLO) -> SustainableRate | None:
    """What an engine sustains; None where no request fits into its memory.

    Raises:
        RequestError: all requests of the trace arrive at once.
    """
    try:
        return max_sustainable_rate(trace, engine.serve, slo)
    except RequestError:
        if trace.timed:
            return None
        raise


def default_slo(trace: WorkloadTrace, costs: CostModel) -> SLO:
    """Five times what an idle engine takes: for the trace's 95th-percentile prompt, and a step at its median context.

    ``costs`` are to be those of the 16-bit cache, so that a configuration is not judged by limits of its own making.
    """
    prompt = float(np.percentile(trace.input_tokens, 95))
    context = float(np.median(trace.input_tokens + trace.output_tokens / 2))
    return SLO(
        ttft_ms=_readable(1e3 * SLACK * costs.prefill(math.ceil(prompt))),
        tpot_ms=_readable(1e3 * SLACK * costs.decode(1, context)),
    )


def _saturated(part: WorkloadTrace, serve: Serve) -> Outcome:
    """All requests from the start; so many times over that they are several times as many as run at once, or an engine
    that takes many at once would be timed while it fills up and runs empty."""
    waiting = replace(part, arrival_s=np.zeros(len(part)), delay_s=None)
    outcome = serve(waiting)
    for _ in range(2):
        wanted = ENOUGH * outcome.max_running
        if outcome.served.any() and len(outcome.finish_s) < wanted <= ENOUGH * REQUESTS:
            outcome = serve(repeated(waiting, math.ceil(wanted / len(part))))
    return outcome


def _capacity(saturated: Outcome) -> float:
    """Requests a second while the engine is neither filling up nor running empty, if there is such a time.

    It fills up until as many requests have finished as it runs at once, and runs empty when as many are left.
    """
    finished = np.sort(saturated.finish_s[saturated.served])
    if not len(finished):
        return 0.0
    edge = min(saturated.max_running, round(EDGE * (len(finished) - 1)))
    first, last = edge, len(finished) - 1 - edge
    seconds = float(finished[last] - finished[first])
    if seconds > 0 and 2 * saturated.max_running < len(finished):
        return (last - first) / seconds
    return len(finished) / float(finished[-1])


def _span(arrival_s: NDArray[np.float64]) -> float:
    """Seconds in which the middle half of the requests comes, without the beginning and the end of the trace."""
    ordered = np.sort(arrival_s)
    edge = round(EDGE * (len(ordered) - 1))
    return max(float(ordered[-1 - edge] - ordered[edge]), SHORTEST_S)


def _readable(milliseconds: float) -> float:
    """Three significant figures, at least a microsecond."""
    return max(1e-3, float(f"{milliseconds:.3g}"))
