"""What jobs are made of: uploads, hardware profiles, models and workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from autokv.wire.common import UploadKind, View, WorkerState


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
