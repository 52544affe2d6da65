"""Settings of a machine: every ``AUTOKV_*`` environment variable, typed and documented.

What belongs to one run is an option of a command; what belongs to the machine is here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from autokv.errors import RequestError
from autokv.files import default_cache_folder

PREFIX = "AUTOKV_"
LOCAL_SERVER = "http://127.0.0.1:8765"
"""Where `autokv serve` listens unless it is told otherwise."""
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class Settings(BaseSettings):
    """One field per variable; ``cache_dir`` is set by ``AUTOKV_CACHE_DIR``, and so on. An empty variable is unset."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, protected_namespaces=()
    )

    cache_dir: Folder = Field(
        default_factory=default_cache_folder, description="folder of converted models, made when it is needed"
    )
    database_url: str = Field(
        default="sqlite:///autokv.db", min_length=1, description="SQLAlchemy URL of the database of jobs and results"
    )
    model_roots: Annotated[tuple[Folder, ...], NoDecode] = Field(
        default=(),
        description=f"folders that local models must lie in, separated by {os.pathsep!r}; none allows every folder",
    )
    kernels: str | None = Field(
        default=None, min_length=1, description="kernel backend; unset takes the fastest that runs on the device"
    )
    cpu_cache_bytes: int | None = Field(
        default=None,
        ge=1,
        description="last-level cache that is cleared ahead of a timed run on a CPU; unset takes what the machine says",
    )
    prefill_seconds: float = Field(
        default=120.0,
        gt=0,
        allow_inf_nan=False,
        description="time budget of the prefills of one run, which caps the contexts",
    )
    server_url: str | None = Field(
        default=None,
        min_length=1,
        description="server that `autokv jobs`, `configs`, `aliases` and the client talk to; unset, the commands use "
        f"the database; the client and `autokv jobs submit` {LOCAL_SERVER}",
    )
    lease_seconds: float = Field(
        default=30.0, ge=0.5, le=3600, description="a worker that was silent for this long loses its job to another"
    )
    heartbeat_seconds: float = Field(
        default=2.0, ge=0.05, le=600, description="between two heartbeats of a worker; at most a third of the lease"
    )
    max_upload_bytes: ByteSize = Field(
        default=ByteSize(256 << 20),
        ge=1,
        description="largest trace or prompts file that is accepted: bytes, or a size such as 1GiB",
    )
    retention_days: float | None = Field(
        default=None, gt=0, description="finished jobs older than this are deleted; unset keeps them for ever"
    )
    offline: bool = Field(default=False, description="never ask the Hugging Face Hub; use its local cache only")

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _beats_in_a_lease(self) -> Self:
        if self.heartbeat_seconds > self.lease_seconds / 3:
            raise ValueError("heartbeat_seconds exceeds a third of lease_seconds")
        return self


def current() -> Settings:
    """The settings as the environment has them now.

    Raises:
        RequestError: a variable has a value that makes no sense; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str((*first["loc"], "heartbeat_seconds")[0])
        raise RequestError(
            f"{first['msg']}, got {first['input']!r}",
            field=f"{PREFIX}{name.upper()}",
            remedy=f"set it to a valid value or unset it ({Settings.model_fields[name].description})",
        ) from None
