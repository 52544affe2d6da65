"""A trace served for real: the simulator's scheduler, and a model that runs every iteration and is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.clocks import clock_of
from autokv.config import CompressionConfig
from autokv.errors import RequestError
from autokv.models import LoadedModel
from autokv.runtime.packed import PackedBatch, PromptChunk
from autokv.runtime.plan import Plan, make_plan
from autokv.serving import Chunk, KVMemory, Outcome, ServingOptions, Step, serve
from autokv.workload import WorkloadTrace

COUNT_EVERY = 16
"""Iterations from one count of the bytes that are really held to the next."""


@dataclass(frozen=True)
class Iteration:
    """One iteration that ran."""

    decoding: int
    held_tokens: int
    """Tokens that the decoding requests held together, before each appended one."""
    chunks: tuple[Chunk, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Replay:
    """What a replay came to."""

    outcome: Outcome
    iterations: tuple[Iteration, ...]
    peak_held_bytes: int
    """Most bytes of caches that were found to be allocated, counted every 16 iterations; the outcome's
    ``peak_kv_bytes`` are those that the scheduler accounted for."""


def replay(
    trace: WorkloadTrace,
    model: LoadedModel,
    config: CompressionConfig,
    memory: KVMemory,
    options: ServingOptions,
    *,
    seed: int = 0,
    between: Callable[[], None] = lambda: None,
) -> Replay:
    """Serve ``trace`` on ``model`` under ``config``, every iteration a real forward pass, timed as its costs are
    (:func:`~autokv.clocks.clock_of`).

    Prompts are random tokens, outputs are as long as the trace says. Idle time is not waited for.

    Args:
        trace: the requests.
        model: what runs; it is given AutoKV's attention.
        config: how caches are held.
        memory: what the scheduler accounts for.
        options: how the engine schedules.
        seed: of the prompts.
        between: called after every iteration; the clock of the replay does not count it.

    Raises:
        ConfigError: the configuration cannot run on the model.
        ModelError: the model has sliding windows, or a request is longer than its context.
        RequestError: preemption by swap or prefix caching is asked for.
    """
    if options.preemption == "swap":
        raise RequestError("is not replayed: caches stay on the device", field="preemption", remedy="use recompute")
    if options.prefix_caching:
        raise RequestError(
            "is not replayed: requests hold caches of their own", field="prefix_caching", remedy="switch it off"
        )
    plan, clock = make_plan(model.model, config), clock_of(model.device)
    executor = ReplayExecutor(trace, plan, seed=seed, clock=clock, between=between)
    outcome = serve(trace, memory, executor, options)
    return Replay(outcome, tuple(executor.iterations), executor.peak_held_bytes)


class ReplayExecutor:
    """Carries out iterations on a model, and says how long each took.

    Args:
        trace: the requests.
        plan: model and configuration.
        seed: of the prompts.
        clock: seconds.
        between: called after every iteration.
    """

    def __init__(
        self,
        trace: WorkloadTrace,
        plan: Plan,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._lengths: list[int] = trace.input_tokens.tolist()
        self._vocabulary = plan.facts.vocab_size
        self._batch, self._seed, self._clock, self._between = PackedBatch(plan), seed, clock, between
        self._texts: dict[int, list[int]] = {}
        """Prompt and output of every request that is not finished, those that were preempted included."""
        self._held: set[int] = set()
        self.iterations: list[Iteration] = []
        self.peak_held_bytes = 0

    def run(self, step: Step, until: float) -> tuple[int, float]:
        """See :class:`~autokv.serving.Executor`; always one iteration."""
        for request in step.dropped:
            self._drop(request)
        decoding = [(request, self._texts[request][-1]) for request in step.decoding]
        chunks = [PromptChunk(chunk.request, self._ids(chunk), chunk.last) for chunk in step.chunks]
        start = self._clock()
        tokens = self._batch.step(decoding, chunks)
        seconds = self._clock() - start
        for request, token in tokens.items():
            self._texts[request].append(token)
        self._held.update(chunk.request for chunk in chunks)
        self.iterations.append(Iteration(len(decoding), step.held_tokens, step.chunks, seconds))
        if len(self.iterations) % COUNT_EVERY == 0:
            self.peak_held_bytes = max(self.peak_held_bytes, sum(map(self._batch.nbytes, self._held)))
        self._between()
        return 1, seconds

    def finished(self, requests: Collection[int]) -> None:
        """See :class:`~autokv.serving.Executor`."""
        for request in requests:
            self._drop(request)
            del self._texts[request]

    def _ids(self, chunk: Chunk) -> Tensor:
        text = self._texts.get(chunk.request)
        if text is None:
            generator = torch.Generator().manual_seed(self._seed + chunk.request)
            size = (self._lengths[chunk.request],)
            text = torch.randint(0, self._vocabulary, size, generator=generator).tolist()
            self._texts[chunk.request] = text
        return torch.tensor(text[chunk.start : chunk.start + chunk.tokens], dtype=torch.int64)

    def _drop(self, request: int) -> None:
        self._batch.drop(request)
        self._held.discard(request)
