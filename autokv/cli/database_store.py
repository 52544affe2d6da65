"""``DatabaseStore``: the jobs, configurations and aliases of a database, told as a server over it would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from autokv.api.views import Fleet, configuration_view, job_view, look
from autokv.errors import RequestError
from autokv.storage import Database
from autokv.tuning.trial import TuningResult
from autokv.wire import ENDED_STATES, AliasMove, AliasName, AliasView, ConfigurationView, Event, JobState, JobView

Item = TypeVar("Item")
Cursor = TypeVar("Cursor")

PAGE = 200
POLL_SECONDS = 0.5
"""Between two looks at a job that is followed."""


class _Jobs:
    def __init__(self, database: Database) -> None:
        self._database, self._fleet = database, Fleet(database)

    def id(self, prefix: str) -> str:
        return self._database.jobs.get(prefix).id

    def list(self, *, state: Sequence[JobState], model: str | None, limit: int) -> Iterable[JobView]:
        page = self._database.jobs.page
        found = _paged(lambda cursor: page(states=state, model=model, cursor=cursor, limit=limit))
        return (job_view(job, self._fleet) for job in found)

    def get(self, job: str) -> JobView:
        return look(self.id(job), self._database, self._fleet)[1]

    def cancel(self, job: str) -> JobView:
        self._database.queue.cancel(self.id(job), "cancelled on the command line")
        return self.get(job)

    def retry(self, job: str) -> JobView:
        self._database.queue.retry(self.id(job))
        return self.get(job)


class _Configurations:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, job: str | None) -> Iterable[ConfigurationView]:
        return map(configuration_view, self._database.configurations.list(job=job or ""))


class _Aliases:
    def __init__(self, database: Database) -> None:
        self._aliases = database.aliases

    def list(self) -> Iterable[AliasView]:
        return _paged(lambda cursor: self._aliases.page(cursor, PAGE))

    def get(self, name: str) -> AliasView:
        return self._aliases.get(name)

    def history(self, name: str) -> Iterable[AliasMove]:
        return _paged(lambda before: self._aliases.history(name, before, PAGE))

    def create(self, name: str, configuration: str, *, note: str) -> AliasView:
        try:
            TypeAdapter(AliasName).validate_python(name)
        except ValidationError:
            remedy = "use lower-case letters, digits, and . _ - between them"
            raise RequestError(f"{name!r} is no name of an alias", remedy=remedy) from None
        return self._aliases.create(name, configuration, note)

    def move(self, name: str, configuration: str, *, revision: int, note: str) -> AliasView:
        return self._aliases.move(name, configuration, note, revision)

    def roll_back(self, name: str, *, revision: int, to: int | None, note: str) -> AliasView:
        return self._aliases.roll_back(name, revision, to, note)

    def delete(self, name: str, *, revision: int) -> None:
        self._aliases.delete(name, revision)


class DatabaseStore:
    """What :class:`~autokv.cli.server_store.ServerStore` is, of a database; a job may be named by how its id begins."""

    def __init__(self, database: Database, option: list[str]) -> None:
        self._database, self.option = database, option
        self.jobs, self.configurations, self.aliases = _Jobs(database), _Configurations(database), _Aliases(database)

    def configuration(self, key: str, job: str) -> ConfigurationView:
        return configuration_view(self._database.configurations.get(key, job=job))

    def result(self, job: JobView) -> TuningResult | None:
        return self._database.results.of(job.id)

    def wait(self, job: str, on_event: Callable[[Event], None]) -> JobView:
        job, number = self.jobs.id(job), 0
        while True:
            ended = self._database.jobs.find(job).state in ENDED_STATES
            news = self._database.events.of(job, number)
            for event in news:
                on_event(Event(job=job, **vars(event)))
                number = event.number
            if ended and not news:
                return self.jobs.get(job)
            if not ended:
                time.sleep(POLL_SECONDS)

    def download(self, job: str, folder: Path) -> Iterable[Path]:
        from autokv.runs.result_files import export

        return export(self._database, self.jobs.id(job), folder)[1].values()

    def resume_command(self, job: JobView) -> list[str]:
        if job.submission is None:
            return ["autokv", "tune", "--resume", job.id, *self.option]
        return ["autokv", "jobs", "retry", job.id, *self.option]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


def _paged(page: Callable[[Cursor | None], tuple[Sequence[Item], Cursor | None]]) -> Iterator[Item]:
    """The items of a list, page by page as they are asked for."""
    cursor = None
    while True:
        found, cursor = page(cursor)
        yield from found
        if cursor is None:
            return
