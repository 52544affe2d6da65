"""States, pages of lists, and problems."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

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
