"""How many requests a second a server can take, and the limits that it is held to where a user gives none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from autokv.errors import RequestError
from autokv.serving.comparison import SustainableRate
from autokv.serving.costs import CostModel
from autokv.serving.options import SLO
from autokv.serving.outcome import Outcome
from autokv.workload import WorkloadTrace
from autokv.workload.transform import with_rate

Serve = Callable[[WorkloadTrace], Outcome]

ATTAINMENT = 0.9
"""Share of requests that must be within the SLO for a rate to be sustained (DistServe, 2024)."""
REQUESTS = 2000
"""Requests of the trace that a rate is tried on, from its beginning."""
HALVINGS = 10
"""A rate below the server's capacity by more halvings than this is not looked for."""
BISECTIONS = 6
"""Of an octave: the rate is found to within 1.1%."""
SLACK = 5.0
"""The default SLO allows this many times what an idle server takes."""
STEADY = (0.25, 0.75)
"""Share of the requests, in the order in which they finish, between which a saturated server is timed."""


def max_sustainable_rate(
    trace: WorkloadTrace, serve: Serve, slo: SLO | None = None, *, attainment: float = ATTAINMENT
) -> SustainableRate:
    """The highest rate at which a share ``attainment`` of the requests is within ``slo`` and the queue is stable.

    The arrivals of the first 2000 requests are stretched or squeezed in time, which keeps their pattern. No rate is
    sustained above what the server completes when all requests are there from the start (the saturation rule;
    Baccelli and Foss, 1995), which is the answer where there is no SLO. Below it, rates are halved until the SLO is
    kept, and the last octave is bisected: 18 simulations at most.

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
    head = trace.take(np.arange(min(REQUESTS, len(trace)))) if len(trace) > REQUESTS else trace
    capacity = _capacity(serve(replace(head, arrival_s=np.zeros(len(head)))))
    if not capacity:
        raise RequestError("no request fits into memory", field="memory", remedy="take a device with more")
    if slo is None:
        return SustainableRate(capacity, capacity, None, len(head), 1)
    tried: dict[float, float] = {}

    def kept(rate: float) -> bool:
        tried[rate] = float(serve(with_rate(head, rate)).good(slo).mean())
        return tried[rate] >= attainment

    low = capacity
    while not kept(low):
        low /= 2
        if low < capacity / 2**HALVINGS:
            return SustainableRate(0.0, capacity, tried[low * 2], len(head), 1 + len(tried))
    if low < capacity:
        high = 2 * low
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)
            if kept(middle):
                low = middle
            else:
                high = middle
    return SustainableRate(low, capacity, tried[low], len(head), 1 + len(tried))


def default_slo(trace: WorkloadTrace, costs: CostModel) -> SLO:
    """Five times what an idle server takes: for the trace's 95th-percentile prompt, and a step at its median context.

    Args:
        trace: the requests.
        costs: of the 16-bit cache, so that a configuration is not judged by limits of its own making.
    """
    prompt = float(np.percentile(trace.input_tokens, 95))
    context = float(np.median(trace.input_tokens + trace.output_tokens / 2))
    return SLO(
        ttft_ms=_readable(1e3 * SLACK * costs.prefill(math.ceil(prompt))),
        tpot_ms=_readable(1e3 * SLACK * costs.decode(1, context)),
    )


def _capacity(saturated: Outcome) -> float:
    """Requests a second while the server is neither filling up nor running empty, if there is such a time."""
    finished = np.sort(saturated.finish_s[saturated.served])
    if not len(finished):
        return 0.0
    first, last = (round(share * (len(finished) - 1)) for share in STEADY)
    seconds = float(finished[last] - finished[first])
    if seconds > 0 and 2 * saturated.max_running < len(finished):
        return (last - first) / seconds
    return len(finished) / float(finished[-1])


def _readable(milliseconds: float) -> float:
    """Three significant figures, at least a microsecond."""
    return max(1e-3, float(f"{milliseconds:.3g}"))
