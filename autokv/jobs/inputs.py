"""What a job of the service names, made into what a run takes: files, a search space, a device."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autokv.errors import StorageError
from autokv.files import replacing
from autokv.hardware import HardwareProfile, find
from autokv.jobs.selector import Selector
from autokv.models.offered import resolve
from autokv.search_spaces import SearchSpace, build_space
from autokv.settings import Settings
from autokv.storage import Database, Job
from autokv.tuning.request import TuningRequest

DECIDED = ("space", "objectives")
"""Fields that a workload decides where a submission leaves them open."""


@dataclass(frozen=True)
class Inputs:
    """A request that can be run here. ``names`` are what people call the paths in it."""

    request: TuningRequest
    space: SearchSpace | None
    target: HardwareProfile | None
    """The device to serve on; None is the device at hand."""
    names: Mapping[str, str]

    def shown(self, text: str) -> str:
        """``text`` without this machine's paths."""
        for path in sorted(self.names, key=len, reverse=True):
            text = text.replace(path, self.names[path])
        return text


def materialise(job: Job, database: Database, settings: Settings, device: str) -> Inputs:
    """Bring what ``job`` names onto this machine; ``device`` is the worker's.

    Raises:
        InputError: something that it names is not there, or cannot be used.
    """
    request, names = _open_fields(job), {}
    model = resolve(request.model, settings)
    names[model] = request.model
    changes: dict[str, Any] = {"model": model, "device": device, "hardware": "here"}
    if request.tokenizer is not None:
        changes["tokenizer"] = resolve(request.tokenizer, settings)
        names[changes["tokenizer"]] = request.tokenizer
    for field, upload in (("workload", job.trace), ("prompts", job.prompts)):
        if upload is not None:
            path = _file(upload, database, settings.cache_dir / "uploads")
            changes[field], names[str(path)] = str(path), path.name
    written = (job.submission or {}).get("space")
    space = build_space(written, "space") if isinstance(written, dict) else None
    return Inputs(request.model_copy(update=changes), space, _target(job, database), names)


def _open_fields(job: Job) -> TuningRequest:
    """The request of a job; at its first attempt without what its workload is to decide."""
    if job.workload is not None:
        return job.request
    left_open = {name for name in DECIDED if name not in (job.submission or {})}
    return TuningRequest.model_validate(job.request.model_dump(exclude=left_open))


def _target(job: Job, database: Database) -> HardwareProfile | None:
    """A worker that was chosen for the device to serve on is that device; else that device is predicted."""
    if job.request.hardware == "here":
        return None
    if job.profile is None:
        profile = find(job.request.hardware)
    else:
        document = database.profiles.get(job.profile).profile
        profile = HardwareProfile.from_dict(document, where=f"profile {job.profile}")
    chosen = Selector.parse(job.selector).device if job.selector else None
    return None if chosen is not None and chosen.is_one(profile.fingerprint, profile.name) else profile


def _file(upload_id: str, database: Database, folder: Path) -> Path:
    """An upload as a file in ``folder``, kept under its digest; whole or not at all."""
    upload = database.uploads.get(upload_id)
    # A name comes from outside and must stay in its folder.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", upload.name).lstrip(".")[-100:] or upload.kind
    path = folder / upload.digest / name
    if path.is_file() and path.stat().st_size == upload.size_bytes:
        return path
    digest = hashlib.sha256()
    with replacing(path) as temporary:
        temporary.touch(0o600)
        with temporary.open("wb") as file:
            for chunk in database.uploads.chunks(upload_id):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != upload.digest:
            raise StorageError("its bytes are not those that were stored", field=f"upload {upload_id}")
    return path
