"""``Judged``: by what a search judged the configuration that it recommends, as its document says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

from autokv.config import ConfigurationDocument
from autokv.errors import RequestError
from autokv.serving import SLO, ServingOptions
from autokv.serving.engine_options import EARLIER_NAMES
from autokv.workload import WorkloadTrace

T = TypeVar("T")

AUTOMATIC = ", five times what an idle server takes"
"""How a search's note on its SLO ends where the user gave none."""


@dataclass(frozen=True)
class Judged:
    """What a document of ``tune`` says of its simulation; ``None`` where it says nothing that can be used."""

    device: str | None = None
    """Name of the device."""
    hardware: str | None = None
    """What the search was told to serve on."""
    trace: str | None = None
    """Name of the workload's file."""
    trace_requests: int | None = None
    """Of the whole workload."""
    slo: SLO | None = None
    slo_is_default: bool = False
    """Whether the user gave none, so that it follows from how fast the device is."""
    options: ServingOptions | None = None
    kv_memory: float | None = None
    """Bytes."""
    rate: float | None = None
    """Requests per second, where they were not the trace's own."""
    sample: int | None = None
    """At most so many requests of the trace were served."""
    seed: int | None = None
    dtype: str | None = None
    """That the search was told to load the model in."""

    @classmethod
    def of(cls, document: ConfigurationDocument) -> Self:
        """What ``document`` says; one that no search wrote says nothing."""
        workload = document.workload or {}
        found = workload.get("serving")
        serving: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        return cls(
            device=_text(serving.get("device")),
            hardware=_text(serving.get("hardware")),
            trace=_text(workload.get("trace")),
            trace_requests=_count(workload.get("requests")),
            slo=_made(SLO, serving.get("slo")),
            slo_is_default=any(
                isinstance(note, str) and note.startswith("SLO: ") and note.endswith(AUTOMATIC)
                for note in _list(serving.get("notes"))
            ),
            options=_made(ServingOptions, serving.get("options"), EARLIER_NAMES),
            kv_memory=_positive(serving.get("kv_memory_bytes")),
            rate=_positive(serving.get("rate")),
            sample=_count(serving.get("sample")) or None,
            seed=_count(serving.get("seed")),
            dtype=_text(serving.get("dtype")),
        )

    def is_of(self, trace: WorkloadTrace) -> bool:
        """Whether it was this trace."""
        return (self.trace, self.trace_requests) == (trace.name, len(trace))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _positive(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return float(value) if known else None  # type: ignore[arg-type]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _made(make: Callable[..., T], value: object, renamed: Mapping[str, str] | None = None) -> T | None:
    """``make`` of the fields in ``value`` that it knows, by the names that ``renamed`` gives them."""
    if not isinstance(value, Mapping):
        return None
    named = {(renamed or {}).get(name, name): one for name, one in value.items()}
    known = {field.name for field in fields(make)}  # type: ignore[arg-type]
    try:
        return make(**{name: one for name, one in named.items() if name in known})
    except (RequestError, TypeError):
        return None
