"""What jobs are made of, as a client asks for it: uploads, hardware profiles, models and workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from autokv.client.methods import Bound, C, call, every
from autokv.client.operation import Operation, Parameter, content, model, nothing, page, path
from autokv.errors import RequestError
from autokv.wire import HardwareProfileView, ModelView, Page, UploadView, WorkerView


class Uploads(Bound[C]):
    """Uploaded files of one kind."""

    kind: ClassVar[str]

    @call
    def upload(
        self,
        file: str | Path,
        *,
        name: str | None = None,
        columns: Mapping[str, str] | None = None,
        time_unit: str | None = None,
        hash_block_size: int | None = None,
        max_bad_rows: float | None = None,
    ) -> Operation[UploadView]:
        """Upload a file; the same bytes under the same name are the same upload.

        ``columns``, ``time_unit``, ``hash_block_size`` and ``max_bad_rows`` say how a trace is read, as a job's do.

        Raises:
            RequestError: there is no such file.
        """
        found = _readable(file)
        headers = {"Content-Type": "application/octet-stream"}
        params: dict[str, Parameter] = {
            "name": name or found.name,
            "column": [f"{field}={column}" for field, column in (columns or {}).items()] or None,
            "time_unit": time_unit,
            "hash_block_size": hash_block_size,
            "max_bad_rows": None if max_bad_rows is None else str(max_bad_rows),
        }
        return Operation("POST", path(self.kind), model(UploadView), params=params, headers=headers, file=found)

    @every
    def list(self, *, limit: int | None = None) -> Operation[Page[UploadView]]:
        """Uploads, the newest first; ``limit`` is what one request brings."""
        return Operation("GET", path(self.kind), page(UploadView), params={"limit": limit})

    @call
    def get(self, upload: str) -> Operation[UploadView]:
        """One upload, by its id."""
        return Operation("GET", path(self.kind, upload), model(UploadView))

    @call
    def content(self, upload: str) -> Operation[bytes]:
        """The bytes of an upload."""
        return Operation("GET", path(self.kind, upload, "content"), content)

    @call
    def delete(self, upload: str) -> Operation[None]:
        """Delete an upload that no job uses."""
        return Operation("DELETE", path(self.kind, upload), nothing)


class Traces(Uploads[C]):
    """Uploaded traces."""

    kind = "traces"


class Prompts(Uploads[C]):
    """Uploaded files of prompts."""

    kind = "prompts"


class Hardware(Bound[C]):
    """Hardware profiles."""

    @call
    def add(self, file: str | Path) -> Operation[HardwareProfileView]:
        """Add a hardware profile, from a JSON or YAML file.

        Raises:
            RequestError: there is no such file.
        """
        found = _readable(file)
        headers = {"Content-Type": "application/json" if found.suffix == ".json" else "application/yaml"}
        return Operation("POST", path("hardware-profiles"), model(HardwareProfileView), headers=headers, file=found)

    @every
    def list(self, *, limit: int | None = None) -> Operation[Page[HardwareProfileView]]:
        """Hardware profiles: measured, uploaded, and the catalog's."""
        return Operation("GET", path("hardware-profiles"), page(HardwareProfileView), params={"limit": limit})

    @call
    def get(self, profile: str) -> Operation[HardwareProfileView]:
        """One hardware profile, by its id or by a name of the catalog."""
        return Operation("GET", path("hardware-profiles", profile), model(HardwareProfileView))

    @call
    def delete(self, profile: str) -> Operation[None]:
        """Delete an uploaded profile that nothing uses."""
        return Operation("DELETE", path("hardware-profiles", profile), nothing)


class Models(Bound[C]):
    """Models that jobs may name."""

    @every
    def list(self, *, limit: int | None = None) -> Operation[Page[ModelView]]:
        """Models that jobs may name."""
        return Operation("GET", path("models"), page(ModelView), params={"limit": limit})


class Workers(Bound[C]):
    """Workers, and what they run."""

    @every
    def list(self, *, limit: int | None = None) -> Operation[Page[WorkerView]]:
        """Workers, and what they run."""
        return Operation("GET", path("workers"), page(WorkerView), params={"limit": limit})


def _readable(file: str | Path) -> Path:
    found = Path(file).expanduser()
    if not found.is_file():
        raise RequestError("is not a file", field=str(file), remedy="check the path")
    return found
