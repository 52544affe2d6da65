"""When requests arrive: at the times of the trace, or, in a conversation, once the turn before has ended.

A trace with conversations is served in a closed loop, as NVIDIA's aiperf replays one (its fixed schedule): the first
turn arrives at its own time; a later turn with a known delay (:attr:`WorkloadTrace.delay_s`) that long after the turn
before it has ended; any other at its own time or when the turn before it has ended, whichever is later. A trace seldom
says when its requests ended, so that the gap between two arrivals is the time of service and of thinking together: it
is kept where this engine is as fast as the recorded one, and a slower engine adds nothing but its own delay. A trace
without conversations is served in an open loop.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from autokv.workload import WorkloadTrace

NOBODY = -1
"""The turn before, of a request that waits for none."""


def open_loop(trace: WorkloadTrace) -> WorkloadTrace:
    """The same requests without conversations: each arrives at its own time."""
    return replace(trace, session=None, turn=None, delay_s=None)


def turns_before(trace: WorkloadTrace) -> NDArray[np.int64]:
    """Shape [requests]: the request that each waits for, :data:`NOBODY` where it waits for none.

    It is the last earlier one of the conversation with a lower turn, so that two answers to one turn do not wait for
    each other.
    """
    before = np.full(len(trace), NOBODY, dtype=np.int64)
    if trace.session is None:
        return before
    turns = np.arange(len(trace)) if trace.turn is None else trace.turn
    # Of every conversation the turns that one to come may wait for: each lower than the one behind it.
    candidates: dict[int, list[tuple[int, int]]] = {}
    for request, (session, turn) in enumerate(zip(trace.session.tolist(), turns.tolist(), strict=True)):
        held = candidates.setdefault(session, [])
        while held and held[-1][0] >= turn:
            held.pop()
        if held:
            before[request] = held[-1][1]
        held.append((turn, request))
    return before


def recorded_arrivals(trace: WorkloadTrace) -> NDArray[np.float64]:
    """Shape [requests]: when each arrived in the trace; NaN for a turn of which the trace knows its delay alone."""
    if trace.delay_s is None:
        return trace.arrival_s
    delayed = (turns_before(trace) != NOBODY) & ~np.isnan(trace.delay_s)
    return np.where(delayed, np.nan, trace.arrival_s)


class Arrivals:
    """The requests of a trace in the order in which they arrive; those at the same time in the order of the trace."""

    def __init__(self, trace: WorkloadTrace) -> None:
        self.moments: list[float] = trace.arrival_s.tolist()
        """When each request arrives, in seconds; of one that waits for another, as soon as that has ended."""
        self._delays: list[float] | None = None if trace.delay_s is None else trace.delay_s.tolist()
        self._before: list[int] = turns_before(trace).tolist()
        self._after: dict[int, list[int]] = {}
        for request, before in enumerate(self._before):
            if before != NOBODY:
                self._after.setdefault(before, []).append(request)
        self._own = (request for request, before in enumerate(self._before) if before == NOBODY)
        self._due: list[tuple[float, int]] = []
        """A heap of requests whose times are known; of those that wait for nobody, the next one alone."""
        self._next_own()

    @property
    def next_s(self) -> float:
        """When the next request arrives, of those whose time is known; infinite if there is none."""
        return self._due[0][0] if self._due else float("inf")

    def pop(self) -> int:
        """The request that arrives at :attr:`next_s`."""
        _, request = heappop(self._due)
        if self._before[request] == NOBODY:
            self._next_own()
        return request

    def ended(self, request: int, now: float) -> None:
        """``request`` has ended at ``now``: the turns that waited for it get their times."""
        for later in self._after.get(request, ()):
            delay = float("nan") if self._delays is None else self._delays[later]
            self.moments[later] = now + delay if delay >= 0 else max(now, self.moments[later])
            heappush(self._due, (self.moments[later], later))

    def _next_own(self) -> None:
        request = next(self._own, None)
        if request is not None:
            heappush(self._due, (self.moments[request], request))
