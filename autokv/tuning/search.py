"""The search: literature first, then the sampler, batch by batch, until something says stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, Interrupted
from autokv.evaluation.measurement import Measurement
from autokv.search_spaces import SearchSpace
from autokv.tuning.candidates import Candidate, Candidates, Runnable
from autokv.tuning.hypervolume import Box, Points
from autokv.tuning.objectives import constraints_of, losses, meets, unusable
from autokv.tuning.pareto import pareto_front
from autokv.tuning.request import TuningRequest
from autokv.tuning.sampling import Sampling
from autokv.tuning.trial import StoppedBy, TrialRecord, TrialState

Evaluate = Callable[[Sequence[CompressionConfig]], Sequence[Measurement | AutoKVError]]
"""Judges a batch: a measurement for each configuration, or the error that says why there is none."""
GAIN = 1e-4
"""A hypervolume that gains less than this share of its frame has not moved."""


@dataclass(frozen=True)
class Progress:
    """Where a search stands."""

    trials_done: int
    trials_total: int
    infeasible: int
    failed: int
    front_size: int
    hypervolume: float
    """Volume that the front dominates. The unit is the frame of the first batch in which a trial meets the constraints;
    since it stays, the figure never falls, and it passes 1 where later trials are better than that whole batch."""
    seconds: float
    """Since this process began to search."""
    seconds_left: float | None
    """At the pace of this process so far, at most what is left of the timeout."""


@dataclass(frozen=True)
class SearchOutcome:
    """Every trial, those of earlier processes included, and why the search ended."""

    trials: tuple[TrialRecord, ...]
    stopped_by: StoppedBy


def search(
    request: TuningRequest,
    space: SearchSpace,
    *,
    evaluate: Evaluate,
    first: Mapping[str, CompressionConfig] = MappingProxyType({}),
    fits: Callable[[CompressionConfig], None] = lambda config: None,
    existing: Sequence[TrialRecord] = (),
    on_trial: Callable[[TrialRecord], None] = lambda record: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> SearchOutcome:
    """Search ``space``, fitted to the model, until ``request.trials`` candidates have run.

    ``first`` are configurations, by source, that run before all others, in the space or not. ``fits`` raises
    ``ConfigError`` or ``InfeasibleError`` for a candidate that is known not to run: it is recorded, but neither run nor
    counted. ``existing`` are the records of earlier processes: numbers go on after them, and their seconds count
    towards ``request.timeout``. ``on_trial`` gets every new record. The sampler ``random`` is the baseline and starts
    without the literature.

    Whatever ``evaluate`` raises that is not an ``AutoKVError`` is taken for one candidate's fault, and the batch is
    judged one by one to find it. ``Interrupted`` ends the search without recording the batch; any other
    ``AutoKVError`` is raised on.

    Raises:
        RequestError: the sampler cannot work on this space.
    """
    run = _Run(request, space, evaluate, first, fits, existing, on_trial, clock)
    while True:
        stopped_by = "interrupt" if should_stop() else run.stopped_by()
        if stopped_by is None and not (batch := run.next_batch()):
            stopped_by = "exhausted"
        if stopped_by is not None:
            return SearchOutcome(tuple(run.records), stopped_by)
        try:
            run.judge(batch)
        except Interrupted:
            return SearchOutcome(tuple(run.records), "interrupt")
        on_progress(run.progress())


class _Run:
    """The state of a running search."""

    def __init__(
        self,
        request: TuningRequest,
        space: SearchSpace,
        evaluate: Evaluate,
        first: Mapping[str, CompressionConfig],
        fits: Callable[[CompressionConfig], None],
        existing: Sequence[TrialRecord],
        on_trial: Callable[[TrialRecord], None],
        clock: Callable[[], float],
    ) -> None:
        self.request, self.evaluate, self.on_trial, self.clock = request, evaluate, on_trial, clock
        self.constraints = constraints_of(request)
        self.records = list(existing)
        self.next_number = max((record.number for record in existing), default=-1) + 1
        self.sampling = Sampling(request.sampler, space, request.objectives, self.constraints, request.seed)
        for record in existing:
            self.sampling.add(record)
        self.candidates = Candidates(request, space, self.sampling, existing, first, fits, self._refuse)
        self.began = clock()
        self.done_before = len(self._ran())
        self.spent_before = sum(record.seconds for record in existing)

    def next_batch(self) -> list[Runnable]:
        """The next candidates to run; none where the space has no more."""
        return self.candidates.batch(min(self.request.batch_size, self.request.trials - len(self._ran())))

    def judge(self, batch: Sequence[Runnable]) -> None:
        """Run a batch and record every candidate of it."""
        began = self.clock()
        results = self._results([candidate.config for candidate in batch])
        seconds = (self.clock() - began) / len(batch)
        needed = sorted({*self.request.objectives, *(constraint.metric for constraint in self.constraints)})
        for candidate, result in zip(batch, results, strict=True):
            if isinstance(result, Measurement):
                fault = unusable(result, needed)
                measurement = result if fault is None else None
            else:
                fault, measurement = str(result), None
            self._record(candidate, "complete" if fault is None else "failed", measurement, fault, seconds)

    def stopped_by(self) -> StoppedBy | None:
        """Why to stop now, or ``None``."""
        ran, patience = self._ran(), self.request.patience
        if len(ran) >= self.request.trials:
            return "trials"
        if self.request.timeout is not None and self._spent() >= self.request.timeout:
            return "timeout"
        if patience is not None and len(ran) > patience:
            now, then = self._points(ran), self._points(ran[:-patience])
            if len(then) and _share(now, now) - _share(then, now) < GAIN:
                return "patience"
        return None

    def progress(self) -> Progress:
        """Where the search stands."""
        ran = self._ran()
        seconds = self.clock() - self.began
        here = len(ran) - self.done_before
        left = (self.request.trials - len(ran)) * seconds / here if here else None
        if left is not None and self.request.timeout is not None:
            left = min(left, max(0.0, self.request.timeout - self._spent()))
        frame = self._frame(ran)
        return Progress(
            trials_done=len(ran),
            trials_total=self.request.trials,
            infeasible=len(self.records) - len(ran),
            failed=sum(record.state == "failed" for record in ran),
            front_size=len(pareto_front(ran, self.request.objectives, self.constraints)),
            hypervolume=0.0 if frame is None else frame.share(self._points(ran)),
            seconds=seconds,
            seconds_left=left,
        )

    def _frame(self, ran: Sequence[TrialRecord]) -> Box | None:
        """The frame of the first whole batch in which a trial meets the constraints, of whatever process it was."""
        size = min(self.request.batch_size, self.request.trials)
        for first in range(0, len(ran), size):
            points = self._points(ran[first : first + size])
            if len(points) and (first + size <= len(ran) or len(ran) >= self.request.trials):
                return Box.around(points)
        return None

    def _ran(self) -> list[TrialRecord]:
        return [record for record in self.records if record.state != "infeasible"]

    def _spent(self) -> float:
        return self.spent_before + self.clock() - self.began

    def _points(self, records: Sequence[TrialRecord]) -> Points:
        """Losses of the trials that meet the constraints."""
        measurements = [record.measurement for record in records if record.measurement is not None]
        counted = [losses(one, self.request.objectives) for one in measurements if meets(one, self.constraints)]
        return np.array(counted, dtype=np.float64).reshape(-1, len(self.request.objectives))

    def _results(self, configs: Sequence[CompressionConfig]) -> Sequence[Measurement | AutoKVError]:
        try:
            return self.evaluate(configs)
        except AutoKVError:
            raise
        except Exception as error:
            # Out of memory, say: one candidate must not take the others with it.
            if len(configs) == 1:
                return [AutoKVError(f"{type(error).__name__}: {error}")]
            return [result for config in configs for result in self._results([config])]

    def _refuse(self, candidate: Candidate, reason: str) -> None:
        self._record(candidate, "infeasible", None, reason, 0.0)

    def _record(
        self,
        candidate: Candidate,
        state: TrialState,
        measurement: Measurement | None,
        reason: str | None,
        seconds: float,
    ) -> None:
        params, source, config = candidate.params, candidate.source, candidate.config
        record = TrialRecord(self.next_number, state, params, source, config, measurement, reason, seconds)
        self.next_number += 1
        self.records.append(record)
        self.sampling.add(record)
        self.on_trial(record)


def _share(points: Points, frame: Points) -> float:
    return Box.around(frame).share(points) if len(frame) else 0.0
