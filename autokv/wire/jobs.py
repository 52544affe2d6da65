"""Jobs: what is told of them. What is submitted is declared beside the request of the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from autokv.tuning.request import JobSubmission
from autokv.tuning.trial import TrialState
from autokv.wire.common import JobState, Outcome, View


class Condition(View):
    """One aspect of a job: whether it holds, why, and since when."""

    type: Literal["Accepted", "WorkerAvailable", "Running", "Finished"]
    status: bool
    reason: str = Field(description="one word in CamelCase, for programs")
    message: str = Field(description="one line, for people")
    time: datetime = Field(description="of the last change of status or reason")


class Progress(View):
    """Where a search stands; ``hypervolume`` never falls, and 1 is the frame of its first usable batch."""

    phase: str = Field(description="what is being done, in a line")
    trials_done: int = 0
    trials_total: int = 0
    infeasible: int = 0
    failed: int = 0
    front_size: int = 0
    hypervolume: float = 0.0
    seconds: float = Field(0.0, description="since this attempt began to search")
    seconds_left: float | None = Field(None, description="at the pace so far")


class QueuePlace(View):
    """Where a queued job stands among those that wait for the same workers."""

    position: int = Field(ge=1)
    length: int = Field(ge=1)


class AttemptView(View):
    """One process's run of a job."""

    number: int
    worker: str
    started: datetime
    ended: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None


class JobView(View):
    """A job as it stands."""

    id: str
    state: JobState
    submission: JobSubmission | None = Field(None, description="null for a job of the command line")
    request: dict[str, Any] = Field(description="what is run, with every default written out")
    conditions: tuple[Condition, ...] = ()
    progress: Progress | None = None
    queue: QueuePlace | None = Field(None, description="while it is queued")
    attempts: tuple[AttemptView, ...] = ()
    worker: str | None = Field(None, description="id of the worker that runs it now")
    trials: int = Field(description="that have run; candidates that were known not to run do not count")
    reason: str | None = Field(None, description="why it failed, was cancelled, or recommends what it does")
    stopped_by: str | None = None
    recommended: str | None = Field(None, description="id of the recommended configuration")
    model_facts: dict[str, Any] | None = None
    hardware_facts: dict[str, Any] | None = None
    workload_facts: dict[str, Any] | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None


class TrialView(View):
    """A finished trial."""

    number: int
    state: TrialState
    source: str
    digest: str | None = None
    config: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = Field(None, description="metric to its statistics")
    reason: str | None = None
    seconds: float


class FrontPointView(View):
    """A point of the front."""

    trial: int
    source: str
    digest: str
    configuration: str | None = Field(None, description="id of the configuration to download")
    roles: tuple[str, ...]
    feasible: bool
    config: dict[str, Any]
    calibration: dict[str, Any]
    validation: dict[str, Any] | None = None


class DecisionView(View):
    """Why the recommended configuration is the one, beside no compression."""

    objective: str = Field(description="metric that decided")
    headline: str = Field(description="what it gains, in words; or that compression does not help")
    advice: tuple[str, ...] = Field((), description="what would have to change for another answer; simulated")
    notes: tuple[str, ...] = Field((), description="what a reader of the figures must know")
    baseline: dict[str, float] = Field(default_factory=dict, description="means of the 16-bit cache's metrics")


class FrontView(View):
    """The Pareto front of a job that has a result, and what is recommended of it."""

    job: str
    objectives: tuple[str, ...]
    recommended: str | None = Field(None, description="digest")
    named: dict[str, str]
    reason: str
    decision: DecisionView | None = Field(None, description="null where nothing is recommended, and in older results")
    hypervolume: tuple[float, ...]
    points: tuple[FrontPointView, ...]


class Event(View):
    """Something that happened to a job; the kind of a server-sent event is ``kind``, its id ``number``.

    ``queued started message trial progress released crashed lost done failed cancelled``; the last three end a stream.
    """

    number: int
    kind: str
    job: str
    time: datetime
    data: dict[str, Any]


class MatchingWorkers(View):
    """Who can run a job now."""

    ready: int = Field(description="workers that match and are alive")
    message: str


class ValidationView(View):
    """What a submission would do."""

    request: dict[str, Any]
    notes: tuple[str, ...]
    workers: MatchingWorkers
    queue_ahead: int = Field(description="jobs that would run first")
    seconds: float | None = Field(
        None, description="how long it would run, from jobs like it; null where there are none"
    )
    basis: str = Field(description="what `seconds` rests on")
