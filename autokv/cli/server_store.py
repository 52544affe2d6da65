"""``ServerStore``: what a server holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from autokv.cli.store import Store
from autokv.client import Client, download_results
from autokv.config import CompressionConfig
from autokv.errors import NotFoundError
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.tuning.trial import Decision, FrontPoint, TuningResult
from autokv.wire import AliasMove, AliasView, ConfigurationView, Event, FrontView, JobState, JobView

PAGE = 200
"""The most that a server answers at once."""


class ServerStore(Store):
    """A server, over its client."""

    def __init__(self, client: Client, option: Sequence[str] = ()) -> None:
        super().__init__(option)
        self._client = client

    def jobs(self, *, states: Sequence[JobState], model: str | None, limit: int | None) -> Iterable[JobView]:
        found = self._client.jobs.list(state=states or None, model=model, limit=min(limit or PAGE, PAGE))
        return islice(found, limit)

    def job(self, job: str) -> JobView:
        return self._client.jobs.get(job)

    def result(self, job: JobView) -> TuningResult | None:
        return _result(self._client.jobs.front(job.id)) if job.state == "done" else None

    def wait(self, job: str, on_event: Callable[[Event], None]) -> JobView:
        return self._client.tuning(job).wait(on_event)

    def cancel(self, job: str) -> JobView:
        return self._client.jobs.cancel(job)

    def retry(self, job: str) -> JobView:
        return self._client.jobs.retry(job)

    def download(self, job: str, folder: Path) -> Iterable[Path]:
        return download_results(self._client, job, folder)

    def configurations(self, job: str) -> Iterable[ConfigurationView]:
        return self._client.configurations.list(job=job or None, limit=PAGE)

    def configuration(self, key: str, job: str = "") -> ConfigurationView:
        if not job:
            return self._client.configurations.get(key)
        for found in self.configurations(job):
            if key == found.id or found.digest.startswith(key.lower()):
                return found
        raise NotFoundError(
            f"job {job} found no configuration {key!r}", remedy=f"see `autokv configs list --job {job}`"
        )

    def aliases(self) -> Iterable[AliasView]:
        return self._client.aliases.list()

    def alias(self, name: str) -> AliasView:
        return self._client.aliases.get(name)

    def history(self, name: str) -> Iterable[AliasMove]:
        return self._client.aliases.history(name)

    def create_alias(self, name: str, configuration: str, note: str) -> AliasView:
        return self._client.aliases.create(name, configuration, note=note)

    def move_alias(self, name: str, configuration: str, revision: int, note: str) -> AliasView:
        return self._client.aliases.move(name, configuration, revision=revision, note=note)

    def roll_back_alias(self, name: str, revision: int, to: int | None, note: str) -> AliasView:
        return self._client.aliases.roll_back(name, revision=revision, to=to, note=note)

    def delete_alias(self, name: str, revision: int) -> None:
        self._client.aliases.delete(name, revision=revision)

    def close(self) -> None:
        self._client.close()


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
