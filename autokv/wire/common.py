"""Pages of lists, and problems."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field


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
