"""``AsyncClient``: what :class:`~autokv.client.Client` is, for an event loop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import httpx2

from autokv.client import configurations, jobs, resources
from autokv.client.async_connection import AsyncBound, AsyncConnection, call, every
from autokv.client.options import PATIENCE_SECONDS, RETRIES, TIMEOUT_SECONDS, http_options
from autokv.client.tuning import recommended_of, space_of, uploads
from autokv.config import ConfigurationDocument
from autokv.documents import format_of
from autokv.files import write_atomic
from autokv.wire import Event, FrontView, JobView


class AsyncTraces(AsyncBound):
    """Uploaded traces."""

    upload = call(resources.traces.upload)
    list = every(resources.traces.pages)
    get = call(resources.traces.get)
    content = call(resources.traces.content)
    delete = call(resources.traces.delete)


class AsyncPrompts(AsyncBound):
    """Uploaded files of prompts."""

    upload = call(resources.prompts.upload)
    list = every(resources.prompts.pages)
    get = call(resources.prompts.get)
    content = call(resources.prompts.content)
    delete = call(resources.prompts.delete)


class AsyncHardware(AsyncBound):
    """Hardware profiles."""

    add = call(resources.add_profile)
    list = every(resources.profiles)
    get = call(resources.profile)
    delete = call(resources.delete_profile)


class AsyncModels(AsyncBound):
    """Models that jobs may name."""

    list = every(resources.models)


class AsyncWorkers(AsyncBound):
    """Workers, and what they run."""

    list = every(resources.workers)


class AsyncJobs(AsyncBound):
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

    def events(self, job: str, *, after: int = 0, deadline: float | None = None) -> AsyncIterator[Event]:
        """What happens to a job behind event ``after``, until it has ended.

        It reconnects when a connection breaks or the server restarts. ``deadline`` is a time of :func:`time.monotonic`.

        Raises:
            AutoKVError: the server has no such job, or could not be reached for too long.
            TimeoutError: the deadline has passed; the job goes on.
        """
        return self._connection.follow(job, after=after, deadline=deadline)


class AsyncConfigurations(AsyncBound):
    """Measured configurations; they never change."""

    get = call(configurations.get)
    text = call(configurations.text_of)
    list = every(configurations.pages)

    async def download(self, configuration: str, file: str | Path) -> Path:
        """Write a configuration's document to a file, whole or not at all; as YAML where its suffix says so.

        Raises:
            NotFoundError: the server has no such configuration.
            StorageError: the file cannot be written.
        """
        return write_atomic(file, await self.text(configuration, format=format_of(file)))


class AsyncAliases(AsyncBound):
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

    async def download(self, name: str, file: str | Path) -> Path:
        """Write what an alias stands for to a file, as :meth:`AsyncConfigurations.download` does."""
        return write_atomic(file, await self.text(name, format=format_of(file)))


class AsyncTuning:
    """A job that was submitted."""

    def __init__(self, client: AsyncClient, job: JobView) -> None:
        self._client = client
        self.id = job.id

    async def job(self) -> JobView:
        """The job as it stands."""
        return await self._client.jobs.get(self.id)

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """What happens to it, as :meth:`AsyncJobs.events` has it."""
        return self._client.jobs.events(self.id, after=after)

    async def wait(self, on_event: Callable[[Event], None] | None = None, *, timeout: float | None = None) -> JobView:
        """Wait until the job has ended, well or not: look at its ``state``.

        Args:
            on_event: is told everything that happens, from the beginning.
            timeout: seconds.

        Raises:
            AutoKVError: the server could not be reached for too long.
            TimeoutError: it has not ended in time; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        async for event in self._client.jobs.events(self.id, deadline=deadline):
            if on_event is not None:
                on_event(event)
        return await self.job()

    async def configuration(self) -> ConfigurationDocument:
        """The recommended configuration.

        Raises:
            NotFoundError: the job recommends none; the message says why.
        """
        found = await self._client.configurations.get(recommended_of(await self.job()))
        return ConfigurationDocument.parse(found.document)

    async def front(self) -> FrontView:
        """The Pareto front."""
        return await self._client.jobs.front(self.id)

    async def report(self) -> str:
        """The report, one HTML page."""
        return await self._client.jobs.report(self.id)

    async def cancel(self) -> JobView:
        """End it."""
        return await self._client.jobs.cancel(self.id)


class AsyncClient:
    """An AutoKV server. A context manager, or :meth:`close` it.

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
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(**http_options(url, timeout), transport=transport)
        connection = AsyncConnection(self._http, retries=retries, patience=patience)
        self.traces = AsyncTraces(connection)
        self.prompts = AsyncPrompts(connection)
        self.hardware = AsyncHardware(connection)
        self.models = AsyncModels(connection)
        self.workers = AsyncWorkers(connection)
        self.jobs = AsyncJobs(connection)
        self.configurations = AsyncConfigurations(connection)
        self.aliases = AsyncAliases(connection)
        self._connection = connection

    @property
    def url(self) -> str:
        """Of the server."""
        return str(self._http.base_url)

    recommendations = every(configurations.recommended)

    async def tune(self, *, key: str | None = None, **fields: Any) -> AsyncTuning:  # noqa: ANN401 - as those of uploaded
        """Submit a job with the fields of :meth:`uploaded`; ``key`` is an idempotency key.

        Raises:
            RequestError: a field makes no sense; nothing was submitted.
        """
        return AsyncTuning(self, await self.jobs.submit(await self.uploaded(**fields), key=key))

    async def uploaded(self, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JobSubmission's fields
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
            fields[name] = (await self._connection.run(upload)).id
        return fields

    async def tuning(self, job: str) -> AsyncTuning:
        """A job that was submitted before.

        Raises:
            NotFoundError: the server has no such job.
        """
        return AsyncTuning(self, await self.jobs.get(job))

    async def close(self) -> None:
        """Let go of every connection."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
