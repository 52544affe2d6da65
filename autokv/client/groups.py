"""What a client offers, by what it is about; of both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, overload

from autokv.client import configurations, jobs, resources
from autokv.client.connection import AsyncConnection, Connection
from autokv.client.methods import Bound, C, Method, call, every
from autokv.client.operation import Flow
from autokv.documents import format_of
from autokv.files import write_atomic
from autokv.wire import Event


class Traces(Bound[C]):
    """Uploaded traces."""

    upload = call(resources.traces.upload)
    list = every(resources.traces.pages)
    get = call(resources.traces.get)
    content = call(resources.traces.content)
    delete = call(resources.traces.delete)


class Prompts(Bound[C]):
    """Uploaded files of prompts."""

    upload = call(resources.prompts.upload)
    list = every(resources.prompts.pages)
    get = call(resources.prompts.get)
    content = call(resources.prompts.content)
    delete = call(resources.prompts.delete)


class Hardware(Bound[C]):
    """Hardware profiles."""

    add = call(resources.add_profile)
    list = every(resources.profiles)
    get = call(resources.profile)
    delete = call(resources.delete_profile)


class Models(Bound[C]):
    """Models that jobs may name."""

    list = every(resources.models)


class Workers(Bound[C]):
    """Workers, and what they run."""

    list = every(resources.workers)


class Jobs(Bound[C]):
    """Tuning jobs."""

    submit = call(jobs.submit)
    validate = call(jobs.validate)
    get = call(jobs.get)
    list = every(jobs.pages)
    cancel = call(jobs.cancel)
    retry = call(jobs.retry)
    delete = call(jobs.delete)
    trials = every(jobs.trials)
    front = call(jobs.front)
    report = call(jobs.report)

    @overload
    def events(
        self: Jobs[Connection], job: str, *, after: int = 0, deadline: float | None = None
    ) -> Iterator[Event]: ...
    @overload
    def events(
        self: Jobs[AsyncConnection], job: str, *, after: int = 0, deadline: float | None = None
    ) -> AsyncIterator[Event]: ...
    def events(self: Jobs[Any], job: str, *, after: int = 0, deadline: float | None = None) -> Any:
        """What happens to a job behind event ``after``, until it has ended.

        It reconnects when a connection breaks or the server restarts. ``deadline`` is a time of :func:`time.monotonic`.

        Raises:
            AutoKVError: the server has no such job, or could not be reached for too long.
            TimeoutError: the deadline has passed; the job goes on.
        """
        return self._connection.follow(job, after=after, deadline=deadline)


class Configurations(Bound[C]):
    """Measured configurations; they never change."""

    get = call(configurations.get)
    text = call(configurations.text_of)
    list = every(configurations.pages)

    @Method
    def download(self, configuration: str, file: str | Path) -> Flow[Path]:
        """Write a configuration's document to a file, whole or not at all; as YAML where its suffix says so.

        Raises:
            NotFoundError: the server has no such configuration.
            StorageError: the file cannot be written.
        """
        return write_atomic(file, (yield configurations.text_of(configuration, format=format_of(file))))


class Aliases(Bound[C]):
    """Names that stand for configurations."""

    get = call(configurations.alias)
    list = every(configurations.aliases)
    configuration = call(configurations.aliased)
    text = call(configurations.aliased_text)
    history = every(configurations.history)
    create = call(configurations.create)
    move = call(configurations.move)
    roll_back = call(configurations.roll_back)
    delete = call(configurations.delete)

    @Method
    def download(self, name: str, file: str | Path) -> Flow[Path]:
        """Write what an alias stands for to a file, as :meth:`Configurations.download` does."""
        return write_atomic(file, (yield configurations.aliased_text(name, format=format_of(file))))
