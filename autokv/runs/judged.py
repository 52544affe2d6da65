"""``Judged``: by what a search judged the configuration that it recommends, as its document says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from autokv.config import ConfigurationDocument
from autokv.errors import RequestError
from autokv.serving import SLO, ServingOptions
from autokv.serving.engine_options import EARLIER_NAMES
from autokv.workload import WorkloadTrace

AUTOMATIC = ", five times what an idle server takes"
"""How a search's note on its SLO ends where the user gave none."""


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401 - whatever is read
    try:
        return read(value)
    except (ValidationError, RequestError):
        return None


def _renamed(options: object) -> object:
    """Options of an earlier version, by their names now."""
    if not isinstance(options, Mapping):
        return options
    return {EARLIER_NAMES.get(name, name): value for name, value in options.items()}


Usable = WrapValidator(_or_none)
Text = Annotated[Annotated[str, Field(strict=True, min_length=1)] | None, Usable]
Count = Annotated[Annotated[int, Field(strict=True, ge=0)] | None, Usable]
Positive = Annotated[Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None, Usable]


class Judged(BaseModel):
    """What a document of ``tune`` says of its simulation; ``None`` where it says nothing that can be used."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    device: Text = None
    """Name of the device."""
    hardware: Text = None
    """What the search was told to serve on."""
    trace: Text = None
    """Name of the workload's file."""
    trace_requests: Count = None
    """Of the whole workload."""
    slo: Annotated[SLO | None, Usable] = None
    slo_is_default: bool = False
    """Whether the user gave none, so that it follows from how fast the device is."""
    options: Annotated[ServingOptions | None, BeforeValidator(_renamed), Usable] = None
    kv_memory: Positive = None
    """Bytes."""
    rate: Positive = None
    """Requests per second, where they were not the trace's own."""
    sample: Count = None
    """At most so many requests of the trace were served."""
    seed: Count = None
    dtype: Text = None
    """That the search was told to load the model in."""

    @classmethod
    def of(cls, document: ConfigurationDocument) -> Self:
        """What ``document`` says; one that no search wrote says nothing."""
        workload = document.workload or {}
        found = workload.get("serving")
        serving: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        notes = serving.get("notes")
        said = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
        named = {
            "trace": workload.get("trace"),
            "trace_requests": workload.get("requests"),
            "slo_is_default": any(note.startswith("SLO: ") and note.endswith(AUTOMATIC) for note in said),
            "kv_memory": serving.get("kv_memory_bytes"),
            "sample": serving.get("sample") or None,
        }
        return cls.model_validate({**serving, **named})

    def is_of(self, trace: WorkloadTrace) -> bool:
        """Whether it was this trace."""
        return (self.trace, self.trace_requests) == (trace.name, len(trace))
