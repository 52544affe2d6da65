"""Notes taken while a trace is served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autokv.serving.closed_loop import Arrivals, recorded_arrivals
from autokv.serving.kv_memory import KVMemory
from autokv.serving.outcome import Outcome, Timeline
from autokv.serving.scheduler import Scheduler
from autokv.serving.step import Step
from autokv.workload import WorkloadTrace

SAMPLES = 2048
"""A timeline has between half as many samples and this, if there are as many iterations."""


class Recording:
    """Collects an :class:`~autokv.serving.outcome.Outcome`."""

    def __init__(self, trace: WorkloadTrace, memory: KVMemory) -> None:
        requests = len(trace)
        self._trace, self._memory = trace, memory
        self._first = np.full(requests, np.nan)
        self._finish = np.full(requests, np.nan)
        self._preemptions = np.zeros(requests, dtype=np.int64)
        self._cached = np.full(requests, -1, dtype=np.int64)
        self._iterations, self._busy = 0, 0.0
        self._peak, self._most = 0, 0
        self._samples: list[tuple[float, int, int, int]] = []
        self._every, self._due = 0.0, 0.0

    def step(
        self,
        step: Step,
        ran: int,
        seconds: float,
        now: float,
        prompted: Sequence[int],
        finished: Sequence[int],
        scheduler: Scheduler,
    ) -> None:
        """An iteration, or ``ran`` of them, ended at ``now``."""
        self._iterations += ran
        self._busy += seconds
        running = scheduler.running + len(finished)
        self._peak = max(self._peak, scheduler.step_blocks)
        self._most = max(self._most, running)
        for chunk in step.chunks:
            if self._cached[chunk.request] < 0:
                self._cached[chunk.request] = chunk.start
        for request in (*step.dropped, *step.swapped_out):
            self._preemptions[request] += 1
        for request in prompted:
            if np.isnan(self._first[request]):
                self._first[request] = now
        for request in finished:
            self._finish[request] = now
        if now >= self._due:
            self._sample((now, scheduler.waiting, running, scheduler.step_blocks))

    def _sample(self, sample: tuple[float, int, int, int]) -> None:
        self._samples.append(sample)
        if len(self._samples) == SAMPLES:
            self._samples = self._samples[::2]
            self._every = 2 * sample[0] / SAMPLES
        self._due = sample[0] + self._every

    def outcome(self, arrivals: Arrivals) -> Outcome:
        """What was collected of requests that arrived so."""
        trace, closed = self._trace, self._trace.session is not None
        time, waiting, running, blocks = zip(*self._samples, strict=True) if self._samples else ((), (), (), ())
        block_bytes = self._memory.block_bytes
        return Outcome(
            arrival_s=np.array(arrivals.moments) if closed else trace.arrival_s,
            first_token_s=self._first,
            finish_s=self._finish,
            input_tokens=trace.input_tokens,
            output_tokens=trace.output_tokens,
            preemptions=self._preemptions,
            cached_tokens=np.maximum(0, self._cached),
            iterations=self._iterations,
            busy_s=self._busy,
            capacity_bytes=self._memory.capacity_bytes,
            peak_kv_bytes=self._peak * block_bytes,
            max_running=self._most,
            timeline=Timeline(
                np.array(time, dtype=np.float64),
                np.array(waiting, dtype=np.int64),
                np.array(running, dtype=np.int64),
                np.array(blocks, dtype=np.float64) * block_bytes,
            ),
            recorded_s=recorded_arrivals(trace) if closed else None,
        )
