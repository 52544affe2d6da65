"""What travels over HTTP: the server's schemas and the client's types, one and the same. Loads without torch."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from autokv.tuning.request import JobSubmission as JobSubmission
from autokv.tuning.trial import TrialState

FinalState = Literal["done", "failed", "cancelled"]
JobState = Literal["queued", "running", FinalState, "interrupted"]
"""``interrupted`` is of jobs of the command line alone."""
FINAL_STATES: frozenset[str] = frozenset(get_args(FinalState))
"""How a job ends; an event of this kind is its last."""
ENDED_STATES: frozenset[str] = FINAL_STATES | {"interrupted"}
"""States in which nothing happens to a job by itself."""
Returned = Literal["released", "crashed", "lost"]
"""How an attempt ends whose job is not over: it gave the lease back, or lost its process, or its worker."""
Outcome = Literal[FinalState, Returned]
"""How an attempt ended."""
WorkerState = Literal["ready", "draining", "stopped"]
UploadKind = Literal["trace", "prompts"]
AliasAction = Literal["created", "moved", "rolled_back"]


class View(BaseModel):
    """What a server answers. Frozen; a client ignores fields that a newer server adds.

    ``model_validate`` reads mappings, and the attributes of what the database holds.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", from_attributes=True, ser_json_inf_nan="null", protected_namespaces=()
    )


Item = TypeVar("Item", bound=View)


class Page(View, Generic[Item]):
    """A part of a list, the newest first."""

    items: tuple[Item, ...]
    next: str | None = Field(None, description="cursor of the next page; null on the last")


class ProblemField(View):
    """One thing that is wrong in a request."""

    field: str = Field(description="path in the body, or the name of a parameter or header")
    message: str


class Problem(View):
    """A problem (RFC 9457); the same shape for every error."""

    type: str = Field(description="URN of the kind of problem, such as urn:autokv:problem:not-found")
    title: str = Field(description="the kind of problem, in words")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="what is wrong, in one line")
    instance: str = Field(description="path of the request")
    remedy: str | None = Field(None, description="what to do about it")
    errors: tuple[ProblemField, ...] = Field((), description="the fields that are wrong")
    request_id: str = Field(description="finds the request in the server's log")


class UploadView(View):
    """An uploaded trace or file of prompts; its bytes never change."""

    id: str
    kind: UploadKind
    name: str
    digest: str = Field(description="SHA-256 of the bytes")
    size_bytes: int
    created: datetime
    facts: dict[str, Any] = Field(description="what was found in it: format, requests, token counts …")


class HardwareProfileView(View):
    """A device."""

    id: str = Field(description="what `hardware` of a job takes: an id, or a catalog's name")
    name: str
    source: Literal["catalog", "uploaded", "measured"]
    fingerprint: str
    created: datetime | None = Field(None, description="null for the catalog's")
    profile: dict[str, Any] = Field(description="the fields of autokv.hardware.HardwareProfile")


class ModelView(View):
    """A model that jobs may name."""

    name: str = Field(description="what `model` of a job takes")
    source: Literal["folder", "gguf", "cache", "hub"]
    architecture: str | None = None
    context_tokens: int | None = None
    size_bytes: int


class WorkerView(View):
    """A worker and its device."""

    id: str
    host: str
    device: str
    labels: dict[str, str]
    state: Literal[WorkerState, "gone"]
    hardware: str = Field(description="id of its measured hardware profile")
    hardware_name: str
    job: str | None = Field(None, description="what it runs now")
    versions: dict[str, str]
    started: datetime
    seen: datetime


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
    runner: str | None = Field(None, description="process that runs it now, and when it was last seen, in words")
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


AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$")]


class ConfigurationView(View):
    """A measured configuration, as it was stored; it never changes."""

    id: str
    digest: str = Field(description="SHA-256 of the canonical JSON of its pipeline")
    etag: str
    job: str
    roles: tuple[str, ...]
    created: datetime
    document: dict[str, Any] = Field(description="what is downloaded, schema autokv/v1")


class ChangeView(View):
    """One part of a configuration that an engine holds otherwise."""

    stage: str
    asked: str
    held: str
    why: str


class FindingView(View):
    """What is known to go wrong with a configuration in an engine."""

    level: Literal["warning", "refusal"]
    message: str
    source: str


class ArtifactView(View):
    """One file that an engine is set up with."""

    kind: Literal["arguments", "environment", "yaml", "json", "python"]
    name: str
    text: str


class ExportView(View):
    """A configuration for an engine."""

    target: str
    version: str = Field(description="of the engine, that its options were read from")
    source: str
    level: Literal["exact", "nearest", "not_expressible"]
    held: dict[str, Any] = Field(description="the configuration that the engine would run, schema autokv/v1")
    changes: tuple[ChangeView, ...]
    findings: tuple[FindingView, ...]
    artifacts: tuple[ArtifactView, ...]


class Recommendation(View):
    """What the database recommends for a model, a device and a workload, the closest match first."""

    configuration: ConfigurationView
    model: str
    hardware: str
    workload: str | None
    matched: tuple[Literal["model", "hardware", "workload"], ...]
    reason: str


class AliasView(View):
    """A name that stands for one configuration."""

    name: str
    revision: int
    configuration: str = Field(description="id")
    digest: str
    created: datetime
    moved: datetime


class AliasMove(View):
    """What an alias stood for at a revision, and how that came."""

    revision: int
    configuration: str
    digest: str
    action: AliasAction
    note: str
    time: datetime


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AliasMoveRequest(_Body):
    """Where an alias is to point. ``If-Match`` names the revision that is replaced; ``If-None-Match: *`` creates."""

    configuration: str = Field(
        min_length=1, max_length=64, description="id of a configuration, or how a digest that one has begins"
    )
    note: str = Field("", max_length=1000)


class AliasRollbackRequest(_Body):
    """Which revision to go back to; the one before, unless named."""

    revision: int | None = Field(None, ge=1)
    note: str = Field("", max_length=1000)
