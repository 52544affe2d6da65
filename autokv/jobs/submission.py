"""From what is submitted over HTTP to what is run: everything is checked that needs neither model nor device.

Loads without torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autokv.errors import ModelError, NotFoundError, RequestError, nearest
from autokv.evaluation.metrics import SERVING_METRICS
from autokv.hardware import HardwareProfile, catalog
from autokv.jobs.selector import Device, Selector
from autokv.models.offered import offered, resolve
from autokv.search_spaces import build_space, names
from autokv.settings import Settings
from autokv.storage import Database
from autokv.tuning.request import ANY, TuningRequest
from autokv.wire import JobSubmission, UploadKind, UploadView

INLINE = "inline"
"""The request's space where the submission spells one out."""
MAX_SPACE_DEPTH = 16
NAMED = 5
"""Models that a message lists."""
SIMILAR = 20
"""Finished jobs that an estimate of the time looks at."""
_ONLY_SUBMITTED = {"labels", "run_on"}


@dataclass(frozen=True)
class CheckedSubmission:
    """A submission that can be stored."""

    request: TuningRequest
    """With ids where paths go: a worker puts its own paths in."""
    document: Mapping[str, Any]
    """The submission without the fields that it left open: a workload may decide those."""
    selector: Selector
    trace: str | None
    prompts: str | None
    profile: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """How long a job would run, in seconds, and what that rests on."""

    seconds: float | None
    basis: str


def check_submission(submission: JobSubmission, database: Database, machine: Settings) -> CheckedSubmission:
    """Check a submission against what is stored, and what ``machine`` offers.

    Raises:
        InputError: something that it names is not there or cannot be used; the field is named.
    """
    model = tuple(_check_model(submission.model, machine))
    if submission.tokenizer is not None:
        model += tuple(_check_model(submission.tokenizer, machine, "tokenizer"))
    trace = _upload(database, "trace", "workload", submission.workload)
    prompts = _upload(database, "prompts", "prompts", submission.prompts)
    _check_serving(submission, trace)
    device, profile, where = _devices(database, submission)
    fields = submission.model_dump(mode="json", exclude=_ONLY_SUBMITTED)
    request = TuningRequest.parse({**fields, "space": _space(submission.space)})
    return CheckedSubmission(
        request=request,
        document=submission.model_dump(mode="json", exclude_unset=True),
        selector=Selector(device, submission.labels),
        trace=None if trace is None else trace.id,
        prompts=None if prompts is None else prompts.id,
        profile=profile,
        notes=(*_about(request, trace, prompts), *_open(submission), where, *model),
    )


def estimate(checked: CheckedSubmission, database: Database) -> Estimate:
    """How long it would run: from finished jobs of the same model, of those that ran on the same device if any did."""
    request, device = checked.request, checked.selector.device
    done, _ = database.jobs.page(states=("done",), model=request.model, limit=SIMILAR)
    alike = [job for job in done if job.selector and Selector.parse(job.selector).device == device] or list(done)
    # Seconds for each trial, loading and confirming included.
    paces = sorted(
        (job.finished - job.started).total_seconds() / job.trials
        for job in alike
        if job.trials and job.started and job.finished
    )
    if not paces:
        return Estimate(request.timeout, "its timeout" if request.timeout else "no earlier run to estimate from")
    seconds = paces[len(paces) // 2] * request.trials
    basis = f"{len(paces)} earlier run{'s' * (len(paces) > 1)} of {request.model}, by trials"
    if request.timeout is not None and request.timeout < seconds:
        return Estimate(request.timeout, f"its timeout; {basis} it would take {seconds:.0f} s")
    return Estimate(seconds, basis)


def _check_model(name: str, machine: Settings, field: str = "model") -> Iterator[str]:
    """Refuse what no worker could load. A server that offers no models itself leaves it to its workers; of one that
    does, the name must be one of them, or an id of the hub.
    """
    known = [model.name for model in offered(machine)]
    parts = name.split("/")
    if not name.isprintable() or name.startswith(("/", "~", ".")) or "\\" in name or {"", ".."} & set(parts):
        raise RequestError(
            "is a path, but a model is one that the server or its workers have", field=field, remedy=_offers(known)
        )
    try:
        resolve(name, machine)
    except ModelError as error:
        if known:
            remedy = nearest(name, known) or _offers(known)
            raise RequestError(f"{name:.200} {error.message}", field=field, remedy=remedy) from None
        yield f"this server offers no models; a worker must have {name}"


def _offers(known: Sequence[str]) -> str:
    """Which models a submission can name."""
    if not known:
        return "name an id of the Hugging Face Hub, or a model that a worker has"
    more = f" and {len(known) - NAMED} more (GET /v1/models)" if len(known) > NAMED else ""
    return f"choose from {', '.join(known[:NAMED])}{more}, or name an id of the Hugging Face Hub"


def _upload(database: Database, kind: UploadKind, field: str, upload_id: str | None) -> UploadView | None:
    if upload_id is None:
        return None
    where = "/v1/traces" if kind == "trace" else "/v1/prompts"
    remedy = f"upload it with POST {where}, and name its id"
    if not upload_id.isprintable():
        raise RequestError("is not an id", field=field, remedy=remedy)
    try:
        upload = database.uploads.get(upload_id)
    except NotFoundError:
        raise RequestError(f"there is no upload {upload_id!r}", field=field, remedy=remedy) from None
    if upload.kind != kind:
        raise RequestError(f"upload {upload_id!r} is of the kind {upload.kind}", field=field, remedy=remedy)
    return upload


def _check_serving(submission: JobSubmission, trace: UploadView | None) -> None:
    if submission.scenario is not None:
        # Traces are read with a large library, which few submissions need.
        from autokv.workload.scenarios import scenario_kind

        scenario_kind(submission.scenario)
    served = sorted(SERVING_METRICS.intersection(submission.metrics))
    if served and submission.rate is None and trace is not None and trace.facts.get("requests_per_s", 0) is None:
        raise RequestError(
            f"the trace has no arrivals, so {served[0]} needs a rate",
            field="rate",
            remedy="say how many requests come per second",
        )


@dataclass(frozen=True)
class _Named:
    """A device that a submission names: ``stored`` is the id of its profile, where it is not of the catalog."""

    profile: HardwareProfile
    device: Device
    stored: str | None


def _named(database: Database, field: str, name: str, otherwise: str) -> _Named:
    sheet = catalog.sheets().get(name)
    if sheet is not None:
        return _Named(sheet.profile(), Device.of(sheet.profile(), sheet), None)
    remedy = f"name a profile of /v1/hardware-profiles, or {otherwise}"
    if not name.isprintable():
        raise RequestError("is not a name", field=field, remedy=remedy)
    try:
        found = database.profiles.get(name)
    except NotFoundError:
        raise RequestError(f"no device {name!r} is known", field=field, remedy=remedy) from None
    profile = HardwareProfile.from_dict(found.profile)
    return _Named(profile, Device.of(profile), found.id)


def _devices(database: Database, submission: JobSubmission) -> tuple[Device | None, str | None, str]:
    """The device that a worker must have, the id of the stored profile of the one to serve on, and a remark."""
    hardware, run_on = submission.hardware, submission.run_on
    served = None if hardware == "here" else _named(database, "hardware", hardware, "`here` for the worker's device")
    worker = served
    if run_on is not None:
        worker = None if run_on == ANY else _named(database, "run_on", run_on, "`any` for any device")
    where = f"waits for a worker on {worker.profile.name}" if worker else "runs on whatever device the worker has"
    if served and not (worker and worker.device.is_one(served.profile.fingerprint, served.profile.name)):
        where += f"; the serving costs of {served.profile.name} are predicted"
    return worker.device if worker else None, served.stored if served else None, where


def _space(space: str | dict[str, Any]) -> str:
    """The name of a space that is known, or :data:`INLINE` for one that is spelled out, and valid."""
    if isinstance(space, dict):
        remedy = "see the built-in spaces for the form"
        if _is_too_deep(space):
            raise RequestError(f"is nested deeper than {MAX_SPACE_DEPTH}", field="space", remedy=remedy)
        try:
            json.dumps(space, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            raise RequestError("has a number or a text that JSON does not", field="space", remedy=remedy) from None
        build_space(space, "space")
        return INLINE
    if space not in names():
        choice = nearest(space, names()) or f"choose from {', '.join(names())}, or spell a space out"
        raise RequestError(f"there is no search space {space!r}", field="space", remedy=choice)
    return space


def _is_too_deep(value: object) -> bool:
    """Looked at level by level, so that no depth is too much for it."""
    level = [value]
    for _ in range(MAX_SPACE_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _about(request: TuningRequest, trace: UploadView | None, prompts: UploadView | None) -> Iterator[str]:
    yield f"{request.trials} trials of the space {request.space!r}, seed {request.seed}"
    if trace is not None:
        yield f"workload: {trace.name}"
    if prompts is not None:
        yield f"prompts: {prompts.name}"
    served = sorted(SERVING_METRICS.intersection(request.metrics))
    if served:
        yield f"measures what serving costs, for {', '.join(served)}"


def _open(submission: JobSubmission) -> Iterator[str]:
    left = [name for name in ("space", "objectives") if name not in submission.model_fields_set]
    if submission.workload is not None and left:
        yield f"the workload decides the {' and the '.join(left)}"
