"""Configurations, what is recommended, and the names that stand for them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from autokv.wire.common import AliasAction, View

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
