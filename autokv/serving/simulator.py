"""Serving a trace: discrete events, one an iteration, carried out by a cost model or by a real model."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.integrate import cumulative_trapezoid

from autokv.errors import RequestError
from autokv.serving.closed_loop import Arrivals, recorded_arrivals
from autokv.serving.cost_model import CostModel
from autokv.serving.engine_options import ServingOptions
from autokv.serving.kv_memory import KVMemory
from autokv.serving.outcome import Outcome, Timeline
from autokv.serving.scheduler import Scheduler
from autokv.serving.step import Executor, Step
from autokv.workload import WorkloadTrace
from autokv.workload.transform import scaled

SAMPLES = 2048
"""A timeline has between half as many samples and this, if there are as many iterations."""


@dataclass(frozen=True)
class SimulatedEngine:
    """One configuration on one device, ready to serve."""

    name: str
    costs: CostModel
    capacity_bytes: float
    """KV memory, see :func:`~autokv.serving.kv_memory.kv_capacity_bytes`."""
    options: ServingOptions = field(default_factory=ServingOptions)
    link_gb_per_s: float | None = None
    """Bandwidth between device and host memory, for preemption by swapping."""
    output_length_ratio: float = 1.0
    """By how much the configuration stretches outputs."""
    notes: tuple[str, ...] = ()
    """What a reader of its figures must know."""

    @property
    def memory(self) -> KVMemory:
        """Its blocks; raises RequestError where there is no room for one."""
        return KVMemory(self.capacity_bytes, self.costs.sequence, self.options.block_size)

    def serve(self, trace: WorkloadTrace) -> Outcome:
        """Simulate ``trace``; raises what :func:`simulate` does."""
        return simulate(
            trace,
            self.costs,
            self.capacity_bytes,
            self.options,
            link_gb_per_s=self.link_gb_per_s,
            output_length_ratio=self.output_length_ratio,
        )

    def concurrent_requests(self, trace: WorkloadTrace) -> float:
        """How many requests of the trace's mean size fit into memory at once, each with all of its tokens."""
        memory = self.memory
        # The last token is never fed back.
        tokens = trace.input_tokens + scaled(trace.output_tokens, self.output_length_ratio) - 1
        sizes, counts = np.unique(tokens, return_counts=True)
        blocks = np.array([memory.blocks_of(int(size)) for size in sizes])
        return float(memory.blocks / np.average(blocks, weights=counts))


def simulate(
    trace: WorkloadTrace,
    costs: CostModel,
    capacity_bytes: float,
    options: ServingOptions | None = None,
    *,
    link_gb_per_s: float | None = None,
    output_length_ratio: float = 1.0,
) -> Outcome:
    """Predict how ``trace`` is served. The same arguments give the same outcome.

    Args are those of a :class:`SimulatedEngine`.

    Raises:
        RequestError: swapping without a link, prefix caching without block hashes, no memory for a block.
    """
    options = options or ServingOptions()
    if options.preemption == "swap" and not link_gb_per_s:
        raise RequestError(
            "needs the bandwidth between device and host memory, which is not known here",
            field="preemption",
            remedy="use recompute",
        )
    if output_length_ratio != 1:
        trace = replace(trace, output_tokens=scaled(trace.output_tokens, output_length_ratio))
    memory = KVMemory(capacity_bytes, costs.sequence, options.block_size)
    return serve(trace, memory, PredictedExecutor(costs, link_gb_per_s), options)


def serve(trace: WorkloadTrace, memory: KVMemory, executor: Executor, options: ServingOptions) -> Outcome:
    """Schedule ``trace`` and have ``executor`` carry it out.

    The clock advances by what the executor says that iterations took, and jumps over idle time: a replay on a real
    model does not wait for arrivals. Turns of one conversation come one after the other
    (:mod:`autokv.serving.closed_loop`).

    Raises:
        RequestError: prefix caching without block hashes.
    """
    scheduler, recording, now = Scheduler(trace, memory, options), Recording(trace, memory), 0.0
    while True:
        step = scheduler.plan(now)
        if step is None:
            if scheduler.arrivals.next_s == float("inf"):
                return recording.outcome(scheduler.arrivals)
            now = max(now, scheduler.arrivals.next_s)
            continue
        ran, seconds = executor.run(step, scheduler.admissible_at() - now)
        now += seconds
        prompted, finished = scheduler.complete(step, ran, now)
        recording.step(step, ran, seconds, now, prompted, finished, scheduler)
        if finished:
            executor.finished(finished)


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


class PredictedExecutor:
    """Carries out iterations by saying how long they take; those that swap by ``link_gb_per_s``."""

    def __init__(self, costs: CostModel, link_gb_per_s: float | None = None) -> None:
        self._costs = costs
        self._seconds_per_byte = 1e-9 / link_gb_per_s if link_gb_per_s else 0.0
        self._paces: dict[int, _Pace] = {}
        self._rest: dict[int, float] = {}

    def run(self, step: Step, until: float) -> tuple[int, float]:
        batch = len(step.decoding)
        if not step.chunks:
            pace = self._paces.get(batch)
            if pace is None:
                pace = self._paces[batch] = _Pace(self._costs, batch)
            ran, seconds = pace.run(step.held_tokens / batch, step.repeats, until)
            return ran, seconds + step.swapped_bytes * self._seconds_per_byte
        costs, tokens, seconds = self._costs, batch, step.swapped_bytes * self._seconds_per_byte
        for _, start, count, last in step.chunks:
            tokens += count
            seconds += costs.chunk_attention(start, count)
            if last:
                seconds += costs.compress(start + count)
        if batch:
            seconds += costs.decode_attention(batch, step.held_tokens / batch)
        rest = self._rest.get(tokens)
        if rest is None:
            rest = self._rest[tokens] = costs.rest(tokens)
        return 1, seconds + rest

    def finished(self, requests: Collection[int]) -> None:
        """See :class:`~autokv.serving.step.Executor`; nothing is held here."""


class _Pace:
    """Seconds of consecutive decoding iterations over one batch, in which every sequence grows by a token at a time.

    One iteration is a piecewise-linear function of the mean tokens held; a run of them is its integral.
    """

    def __init__(self, costs: CostModel, batch: int) -> None:
        curve = costs.decode_attention.at(batch)
        rest = costs.rest(batch)
        # Curves go on beyond their ends as the segments there do; these points make them the outermost segments.
        far = 4 * curve.x[-1] + 1
        knots = sorted({0.0, *curve.x, far})
        self._x = knots
        self._y = [rest + curve(x) for x in knots]
        self._slope: list[float] = (np.diff(self._y) / np.diff(knots)).tolist()
        self._area: list[float] = cumulative_trapezoid(self._y, knots, initial=0.0).tolist()

    def run(self, held: float, repeats: int, until: float) -> tuple[int, float]:
        """As :meth:`~autokv.serving.step.Executor.run`, from ``held`` mean tokens."""
        # The sum of a linear function over whole steps is its integral from half a step before to half a step behind.
        start = self._integral(held - 0.5)

        def spent(steps: int) -> float:
            return self._integral(held + steps - 0.5) - start

        seconds = spent(repeats)
        if repeats == 1 or seconds <= until:
            return repeats, seconds
        ran = max(1, min(repeats, round(repeats * until / seconds)))
        while ran > 1 and spent(ran - 1) >= until:
            ran -= 1
        while ran < repeats and spent(ran) < until:
            ran += 1
        return ran, spent(ran)

    def _integral(self, x: float) -> float:
        at = min(max(bisect_right(self._x, x), 1), len(self._x) - 1) - 1
        over = x - self._x[at]
        return self._area[at] + over * (self._y[at] + self._slope[at] * over / 2)
