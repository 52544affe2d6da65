"""``Client``: an AutoKV server, for Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx2

from autokv.client import configurations, jobs, resources
from autokv.client.connection import Bound, Connection, call, every
from autokv.client.options import PATIENCE_SECONDS, RETRIES, TIMEOUT_SECONDS, http_options
from autokv.client.tuning import recommended_of, space_of, uploads
from autokv.config import ConfigurationDocument
from autokv.documents import format_of
from autokv.files import write_atomic
from autokv.wire import Event, FrontView, JobView


class Traces(Bound):
    """Uploaded traces."""

    upload = call(resources.traces.upload)
    list = every(resources.traces.pages)
    get = call(resources.traces.get)
    content = call(resources.traces.content)
    delete = call(resources.traces.delete)


class Prompts(Bound):
    """Uploaded files of prompts."""

    upload = call(resources.prompts.upload)
    list = every(resources.prompts.pages)
    get = call(resources.prompts.get)
    content = call(resources.prompts.content)
    delete = call(resources.prompts.delete)


class Hardware(Bound):
    """Hardware profiles."""

    add = call(resources.add_profile)
    list = every(resources.profiles)
    get = call(resources.profile)
    delete = call(resources.delete_profile)


class Models(Bound):
    """Models that jobs may name."""

    list = every(resources.models)


class Workers(Bound):
    """Workers, and what they run."""

    list = every(resources.workers)


class Jobs(Bound):
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

    def events(self, job: str, *, after: int = 0, deadline: float | None = None) -> Iterator[Event]:
        """What happens to a job behind event ``after``, until it has ended.

        It reconnects when a connection breaks or the server restarts. ``deadline`` is a time of :func:`time.monotonic`.

        Raises:
            AutoKVError: the server has no such job, or could not be reached for too long.
            TimeoutError: the deadline has passed; the job goes on.
        """
        return self._connection.follow(job, after=after, deadline=deadline)


class Configurations(Bound):
    """Measured configurations; they never change."""

    get = call(configurations.get)
    text = call(configurations.text_of)
    list = every(configurations.pages)

    def download(self, configuration: str, file: str | Path) -> Path:
        """Write a configuration's document to a file, whole or not at all; as YAML where its suffix says so.

        Raises:
            NotFoundError: the server has no such configuration.
            StorageError: the file cannot be written.
        """
        return write_atomic(file, self.text(configuration, format=format_of(file)))


class Aliases(Bound):
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

    def download(self, name: str, file: str | Path) -> Path:
        """Write what an alias stands for to a file, as :meth:`Configurations.download` does."""
        return write_atomic(file, self.text(name, format=format_of(file)))


class Tuning:
    """A job that was submitted."""

    def __init__(self, client: Client, job: JobView) -> None:
        self._client = client
        self.id = job.id

    def job(self) -> JobView:
        """The job as it stands."""
        return self._client.jobs.get(self.id)

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """What happens to it, as :meth:`Jobs.events` has it."""
        return self._client.jobs.events(self.id, after=after)

    def wait(self, on_event: Callable[[Event], None] | None = None, *, timeout: float | None = None) -> JobView:
        """Wait until the job has ended, well or not: look at its ``state``.

        Args:
            on_event: is told everything that happens, from the beginning.
            timeout: seconds.

        Raises:
            AutoKVError: the server could not be reached for too long.
            TimeoutError: it has not ended in time; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for event in self._client.jobs.events(self.id, deadline=deadline):
            if on_event is not None:
                on_event(event)
        return self.job()

    def configuration(self) -> ConfigurationDocument:
        """The recommended configuration.

        Raises:
            NotFoundError: the job recommends none; the message says why.
        """
        return ConfigurationDocument.parse(self._client.configurations.get(recommended_of(self.job())).document)

    def front(self) -> FrontView:
        """The Pareto front."""
        return self._client.jobs.front(self.id)

    def report(self) -> str:
        """The report, one HTML page."""
        return self._client.jobs.report(self.id)

    def cancel(self) -> JobView:
        """End it."""
        return self._client.jobs.cancel(self.id)


class Client:
    """An AutoKV server. May be shared by threads; a context manager, or :meth:`close` it.

    Args:
        url: of the server; ``AUTOKV_SERVER_URL`` unless given.
        timeout: seconds of silence after which an attempt has failed.
        retries: attempts after the first, where the server is busy or cannot be reached. They wait ever longer, or as
            long as the server's ``Retry-After`` asks.
        patience: seconds without a server after which following a job gives up.
        transport: how requests travel, instead of a network connection.

    Raises:
        RequestError: the URL makes no sense.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        patience: float = PATIENCE_SECONDS,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(**http_options(url, timeout), transport=transport)
        connection = Connection(self._http, retries=retries, patience=patience)
        self.traces = Traces(connection)
        self.prompts = Prompts(connection)
        self.hardware = Hardware(connection)
        self.models = Models(connection)
        self.workers = Workers(connection)
        self.jobs = Jobs(connection)
        self.configurations = Configurations(connection)
        self.aliases = Aliases(connection)
        self._connection = connection

    @property
    def url(self) -> str:
        """Of the server."""
        return str(self._http.base_url)

    recommendations = every(configurations.recommended)

    def tune(self, *, key: str | None = None, **fields: Any) -> Tuning:  # noqa: ANN401 - as those of uploaded
        """Submit a job with the fields of :meth:`uploaded`; ``key`` is an idempotency key.

        Raises:
            RequestError: a field makes no sense; nothing was submitted.
        """
        return Tuning(self, self.jobs.submit(self.uploaded(**fields), key=key))

    def uploaded(self, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JobSubmission's fields
        """The fields of :class:`~autokv.wire.JobSubmission`, with every file uploaded; ``None`` leaves a field out.

        ``workload``, ``prompts`` and ``hardware`` may be paths: the files are uploaded, and their ids take their
        place. ``space`` may be a YAML file.

        Raises:
            RequestError: a file cannot be read, or is not what it should be.
        """
        fields = {name: value for name, value in fields.items() if value is not None}
        if "space" in fields:
            fields["space"] = space_of(fields["space"])
        for name, upload in uploads(fields):
            fields[name] = self._connection.run(upload).id
        return fields

    def tuning(self, job: str) -> Tuning:
        """A job that was submitted before.

        Raises:
            NotFoundError: the server has no such job.
        """
        return Tuning(self, self.jobs.get(job))

    def close(self) -> None:
        """Let go of every connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
