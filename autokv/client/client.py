"""``Client`` and ``AsyncClient``: an AutoKV server, for Python."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx2

from autokv.client import configurations, groups
from autokv.client.connection import AsyncConnection, Connection
from autokv.client.methods import Bound, C, every
from autokv.client.options import PATIENCE_SECONDS, RETRIES, TIMEOUT_SECONDS, http_options
from autokv.client.tuning import recommended_of, uploading
from autokv.config import ConfigurationDocument
from autokv.errors import StorageError
from autokv.files import write_atomic
from autokv.wire import Event, FrontView, JobView

RECOMMENDED = "recommended.json"


class _Groups(Bound[C]):
    """What both clients offer, by what it is about."""

    def __init__(self, connection: C) -> None:
        super().__init__(connection)
        self.traces = groups.Traces(connection)
        self.prompts = groups.Prompts(connection)
        self.hardware = groups.Hardware(connection)
        self.models = groups.Models(connection)
        self.workers = groups.Workers(connection)
        self.jobs = groups.Jobs(connection)
        self.configurations = groups.Configurations(connection)
        self.aliases = groups.Aliases(connection)

    recommendations = every(configurations.recommended)

    @property
    def url(self) -> str:
        """Of the server."""
        return self._connection.url


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


class Client(_Groups[Connection]):
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
        super().__init__(Connection(self._http, retries=retries, patience=patience))

    def tune(self, *, key: str | None = None, **fields: Any) -> Tuning:  # noqa: ANN401 - as those of uploaded
        """Submit a job with the fields of :meth:`uploaded`; ``key`` is an idempotency key.

        Raises:
            RequestError: a field makes no sense; nothing was submitted.
        """
        return Tuning(self, self.jobs.submit(self.uploaded(**fields), key=key))

    def uploaded(self, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JobSubmission's fields
        """The fields of :class:`~autokv.wire.JobSubmission`, with every file uploaded; ``None`` leaves a field out.

        ``workload``, ``prompts``, ``hardware`` and ``run_on`` may be paths: the files are uploaded, and their ids take
        their place. ``space`` may be a YAML file.

        Raises:
            RequestError: a file cannot be read, or is not what it should be.
        """
        return self._connection.complete(uploading(fields))

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


class AsyncTuning:
    """A job that was submitted."""

    def __init__(self, client: AsyncClient, job: JobView) -> None:
        self._client = client
        self.id = job.id

    async def job(self) -> JobView:
        """The job as it stands."""
        return await self._client.jobs.get(self.id)

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """What happens to it, as :meth:`Tuning.events` has it."""
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


class AsyncClient(_Groups[AsyncConnection]):
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
        super().__init__(AsyncConnection(self._http, retries=retries, patience=patience))

    async def tune(self, *, key: str | None = None, **fields: Any) -> AsyncTuning:  # noqa: ANN401 - as those of uploaded
        """Submit a job with the fields of :meth:`uploaded`; ``key`` is an idempotency key.

        Raises:
            RequestError: a field makes no sense; nothing was submitted.
        """
        return AsyncTuning(self, await self.jobs.submit(await self.uploaded(**fields), key=key))

    async def uploaded(self, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JobSubmission's fields
        """The fields of :class:`~autokv.wire.JobSubmission`, with every file uploaded; ``None`` leaves a field out.

        ``workload``, ``prompts``, ``hardware`` and ``run_on`` may be paths: the files are uploaded, and their ids take
        their place. ``space`` may be a YAML file.

        Raises:
            RequestError: a file cannot be read, or is not what it should be.
        """
        return await self._connection.complete(uploading(fields))

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


def download_results(client: Client, job: str, directory: str | Path) -> list[Path]:
    """Write ``report.html``, ``front.json`` and, if one is recommended, ``recommended.json``.

    A recommended configuration of an earlier job goes first, so that the file is there only if this one recommends it.

    Raises:
        NotFoundError: the server has no such job, or it has no result yet.
        StorageError: a file cannot be written.
    """
    folder = Path(directory)
    found = client.jobs.get(job)
    contents = {"report.html": client.jobs.report(job), "front.json": client.jobs.front(job).model_dump_json(indent=2)}
    if found.recommended is not None:
        contents[RECOMMENDED] = client.configurations.text(found.recommended)
    try:
        (folder / RECOMMENDED).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot be written to ({error.strerror})", field=str(directory), remedy="choose another folder"
        ) from None
    return [write_atomic(folder / name, text) for name, text in contents.items()]
