"""``ServerStore``: the jobs, configurations and aliases of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from autokv.client import Client
from autokv.config import CompressionConfig
from autokv.errors import NotFoundError, StorageError
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.files import write_atomic
from autokv.tuning.trial import Decision, FrontPoint, TuningResult
from autokv.wire import ConfigurationView, Event, FrontView, JobView

RECOMMENDED = "recommended.json"


class ServerStore(Client):
    """A client with what the commands need besides; see :mod:`autokv.cli.store`."""

    def __init__(self, url: str | None) -> None:
        super().__init__(url)
        self.option = ["--server", url] if url else []

    def configuration(self, key: str, job: str) -> ConfigurationView:
        """A configuration by its id or by how its digest begins, of ``job`` where that is not empty."""
        if not job:
            return self.configurations.get(key)
        for found in self.configurations.list(job=job):
            if key == found.id or found.digest.startswith(key.lower()):
                return found
        remedy = f"see `autokv configs list --job {job}`"
        raise NotFoundError(f"job {job} found no configuration {key!r}", remedy=remedy)

    def result(self, job: JobView) -> TuningResult | None:
        """What a job found; ``None`` before."""
        return _result(self.jobs.front(job.id)) if job.state == "done" else None

    def wait(self, job: str, on_event: Callable[[Event], None]) -> JobView:
        """Wait for the end of a job; ``on_event`` is told everything that happens to it, from the beginning."""
        return self.tuning(job).wait(on_event)

    def download(self, job: str, folder: Path) -> Iterable[Path]:
        """Write ``report.html``, ``front.json`` and, if one is recommended, ``recommended.json`` of a job that is done.

        A recommended configuration of an earlier job goes first, so that the file is there only if this one
        recommends it.

        Raises:
            NotFoundError: the server has no such job, or it has no result yet.
            StorageError: a file cannot be written.
        """
        found = self.jobs.get(job)
        contents = {"report.html": self.jobs.report(job), "front.json": self.jobs.front(job).model_dump_json(indent=2)}
        if found.recommended is not None:
            contents[RECOMMENDED] = self.configurations.text(found.recommended)
        try:
            (folder / RECOMMENDED).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot be written to ({error.strerror})", field=str(folder), remedy="choose another folder"
            ) from None
        return [write_atomic(folder / name, text) for name, text in contents.items()]

    def resume_command(self, job: JobView) -> list[str]:
        """The command that goes on with a job that failed, was cancelled or was interrupted."""
        return ["autokv", "jobs", "retry", job.id, *self.option]


def _result(front: FrontView) -> TuningResult:
    """The front as the search had it, without the trials behind it."""
    points = [
        FrontPoint(
            trial=point.trial,
            source=point.source,
            calibration=_measurement(point.config, point.calibration),
            validation=None if point.validation is None else _measurement(point.config, point.validation),
            feasible=point.feasible,
        )
        for point in front.points
    ]
    return TuningResult(
        objectives=front.objectives,
        trials=(),
        front=points,
        recommended=front.recommended,
        named=front.named,
        reason=front.reason,
        hypervolume=front.hypervolume,
        decision=None if front.decision is None else Decision.from_dict(front.decision.model_dump()),
    )


def _measurement(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Measurement:
    return Measurement(
        CompressionConfig.parse(config), {name: Statistics(**one) for name, one in metrics.items()}, samples=()
    )
