"""``DatabaseStore``: what a database holds, told as a server over it would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from autokv.api.views import Fleet, configuration_view, job_view, look
from autokv.cli.store import Store
from autokv.errors import RequestError
from autokv.storage import Database
from autokv.tuning.trial import TuningResult
from autokv.wire import ENDED_STATES, AliasMove, AliasView, ConfigurationView, Event, JobState, JobView
from autokv.wire.configurations import AliasName

Item = TypeVar("Item")
Cursor = TypeVar("Cursor")

PAGE = 200
POLL_SECONDS = 0.5
"""Between two looks at a job that is followed."""


class DatabaseStore(Store):
    """A database; the beginning of a job's id names it where no other begins so."""

    def __init__(self, database: Database, option: Sequence[str]) -> None:
        super().__init__(option)
        self._database, self._fleet = database, Fleet(database)

    def jobs(self, *, states: Sequence[JobState], model: str | None, limit: int | None) -> Iterable[JobView]:
        found = _paged(
            lambda cursor: self._database.jobs.page(states=states, model=model, cursor=cursor, limit=limit or PAGE)
        )
        return (job_view(job, self._fleet) for job in islice(found, limit))

    def job(self, job: str) -> JobView:
        return look(self._id(job), self._database, self._fleet)[1]

    def result(self, job: JobView) -> TuningResult | None:
        return self._database.results.of(job.id)

    def wait(self, job: str, on_event: Callable[[Event], None]) -> JobView:
        job_id, number = self._id(job), 0
        while True:
            ended = self._database.jobs.find(job_id).state in ENDED_STATES
            news = self._database.events.of(job_id, number)
            for event in news:
                on_event(Event(job=job_id, **vars(event)))
                number = event.number
            if ended and not news:
                return self.job(job_id)
            if not ended:
                time.sleep(POLL_SECONDS)

    def cancel(self, job: str) -> JobView:
        self._database.queue.cancel(self._id(job), "cancelled with `autokv jobs cancel`")
        return self.job(job)

    def retry(self, job: str) -> JobView:
        self._database.queue.retry(self._id(job))
        return self.job(job)

    def resume_command(self, job: JobView) -> list[str]:
        if job.submission is not None:
            return super().resume_command(job)
        return ["autokv", "tune", "--resume", job.id, *self.option]

    def download(self, job: str, folder: Path) -> Iterable[Path]:
        from autokv.runs.result_files import export

        return export(self._database, self._id(job), folder)[1].values()

    def configurations(self, job: str) -> Iterable[ConfigurationView]:
        return map(configuration_view, self._database.configurations.list(job=job))

    def configuration(self, key: str, job: str = "") -> ConfigurationView:
        return configuration_view(self._database.configurations.get(key, job=job))

    def aliases(self) -> Iterable[AliasView]:
        return map(AliasView.model_validate, _paged(lambda cursor: self._database.aliases.page(cursor, PAGE)))

    def alias(self, name: str) -> AliasView:
        return AliasView.model_validate(self._database.aliases.get(name))

    def history(self, name: str) -> Iterable[AliasMove]:
        moves = _paged(lambda before: self._database.aliases.history(name, before, PAGE))
        return map(AliasMove.model_validate, moves)

    def create_alias(self, name: str, configuration: str, note: str) -> AliasView:
        try:
            TypeAdapter(AliasName).validate_python(name)
        except ValidationError:
            raise RequestError(
                f"{name!r} is no name of an alias", remedy="use lower-case letters, digits, and . _ - between them"
            ) from None
        return AliasView.model_validate(self._database.aliases.create(name, configuration, note))

    def move_alias(self, name: str, configuration: str, revision: int, note: str) -> AliasView:
        return AliasView.model_validate(self._database.aliases.move(name, configuration, note, revision))

    def roll_back_alias(self, name: str, revision: int, to: int | None, note: str) -> AliasView:
        return AliasView.model_validate(self._database.aliases.roll_back(name, revision, to, note))

    def delete_alias(self, name: str, revision: int) -> None:
        self._database.aliases.delete(name, revision)

    def close(self) -> None:
        self._database.close()

    def _id(self, prefix: str) -> str:
        return self._database.jobs.get(prefix).id


def _paged(page: Callable[[Cursor | None], tuple[Sequence[Item], Cursor | None]]) -> Iterator[Item]:
    """The items of a list, page by page as they are asked for."""
    cursor = None
    while True:
        found, cursor = page(cursor)
        yield from found
        if cursor is None:
            return
