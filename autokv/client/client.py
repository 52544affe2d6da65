"""``Client`` and ``AsyncClient``: an AutoKV server, for Python."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx2

from autokv.client.configurations import Aliases, Configurations
from autokv.client.connection import AsyncConnection, Connection, http_options
from autokv.client.jobs import Jobs
from autokv.client.methods import Bound, C, Method, every
from autokv.client.operation import Flow, Operation, page, path
from autokv.client.resources import Hardware, Models, Prompts, Traces, Workers
from autokv.config import ConfigurationDocument
from autokv.documents import read_document
from autokv.errors import NotFoundError, RequestError
from autokv.wire import Event, FrontView, JobView, Page, Recommendation

TIMEOUT_SECONDS = 30.0
"""Of silence, for anything but a stream of events."""
RETRIES = 6
"""After the first attempt; with the pauses between them, they bear a server that restarts within 10 seconds."""
PATIENCE_SECONDS = 300.0
"""Without a server, after which following a job gives up."""


class _Client(Bound[C]):
    """What both clients offer, by what it is about."""

    def __init__(self, connection: C) -> None:
        super().__init__(connection)
        self.traces = Traces(connection)
        self.prompts = Prompts(connection)
        self.hardware = Hardware(connection)
        self.models = Models(connection)
        self.workers = Workers(connection)
        self.jobs = Jobs(connection)
        self.configurations = Configurations(connection)
        self.aliases = Aliases(connection)

    @property
    def url(self) -> str:
        """Of the server."""
        return self._connection.url

    @every
    def recommendations(
        self, *, model: str, hardware: str | None = None, workload: str | None = None, limit: int | None = None
    ) -> Operation[Page[Recommendation]]:
        """What is known for a model, a device and a workload, the closest match first."""
        params = {"model": model, "hardware": hardware, "workload": workload, "limit": limit}
        return Operation("GET", path("recommendations"), page(Recommendation), params=params)

    @Method
    def uploaded(self, /, **fields: Any) -> Flow[dict[str, Any]]:  # noqa: ANN401 - JobSubmission's fields
        """The fields of :class:`~autokv.wire.JobSubmission`, with every file uploaded; ``None`` leaves a field out.

        ``workload``, ``prompts``, ``hardware`` and ``run_on`` may be paths: the files are uploaded, and their ids take
        their place. ``space`` may be a YAML file.

        Raises:
            RequestError: a file cannot be read, or is not what it should be.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        if "space" in given:
            given["space"] = _space(given["space"])
        if file := _file("workload", given.get("workload")):
            columns = given.get("columns", {})
            if not isinstance(columns, Mapping):
                raise RequestError("is no mapping", field="columns", remedy="such as {'input_tokens': 'prompt_tokens'}")
            reading = {name: given.get(name) for name in ("time_unit", "max_bad_rows")}
            # A job takes the field by its earlier name too.
            reading["hash_block_size"] = given.get("hash_block_size", given.get("block_size"))
            given["workload"] = (yield from Traces.upload.flow(self.traces, file, columns=columns, **reading)).id
        if file := _file("prompts", given.get("prompts")):
            given["prompts"] = (yield from Prompts.upload.flow(self.prompts, file)).id
        for name in ("hardware", "run_on"):
            if file := _file(name, given.get(name)):
                given[name] = (yield from Hardware.add.flow(self.hardware, file)).id
        return given


def _space(value: Any) -> Any:  # noqa: ANN401 - a name, or a search space spelled out
    """A search space: a YAML file is read, anything else is left as it is.

    Raises:
        RequestError: the file cannot be read.
    """
    file = _file("space", value)
    if file is None:
        return value
    document = read_document(file, error=RequestError, remedy="see docs/configuration.md")
    if not isinstance(document, dict):
        raise RequestError("holds no search space", field=str(file), remedy="see docs/configuration.md")
    return document


def _file(name: str, value: object) -> Path | None:
    """The file that a field names; ids and names have neither slashes nor a suffix."""
    if isinstance(value, Path):
        file = value.expanduser()
    elif isinstance(value, str) and (Path(value).is_file() or "/" in value):
        file = Path(value).expanduser()
    else:
        return None
    if not file.is_file():
        raise RequestError(f"{value} is not a file", field=name, remedy="check the path, or name an id")
    return file


class _Tuning(Bound[C]):
    """A job that was submitted."""

    def __init__(self, client: _Client[C], job: JobView) -> None:
        super().__init__(client._connection)
        self.id = job.id

    @Method
    def job(self) -> Flow[JobView]:
        """The job as it stands."""
        return (yield from Jobs.get.flow(self, self.id))

    @Method
    def configuration(self) -> Flow[ConfigurationDocument]:
        """The recommended configuration.

        Raises:
            NotFoundError: the job recommends none; the message says why.
        """
        job = yield from Jobs.get.flow(self, self.id)
        if job.recommended is None:
            reason = job.reason or f"it is {job.state}"
            raise NotFoundError(
                f"recommends no configuration ({reason})", field=f"job {job.id}", remedy="look at its report"
            )
        found = yield from Configurations.get.flow(self, job.recommended)
        return ConfigurationDocument.parse(found.document)

    @Method
    def front(self) -> Flow[FrontView]:
        """The Pareto front."""
        return (yield from Jobs.front.flow(self, self.id))

    @Method
    def report(self) -> Flow[str]:
        """The report, one HTML page."""
        return (yield from Jobs.report.flow(self, self.id))

    @Method
    def cancel(self) -> Flow[JobView]:
        """End it."""
        return (yield from Jobs.cancel.flow(self, self.id))


class Tuning(_Tuning[Connection]):
    """A job that was submitted."""

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """What happens to it, as :meth:`Jobs.events` has it."""
        return self._connection.follow(self.id, after=after)

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
        for event in self._connection.follow(self.id, deadline=deadline):
            if on_event is not None:
                on_event(event)
        return self.job()


class AsyncTuning(_Tuning[AsyncConnection]):
    """A job that was submitted, as :class:`Tuning` is; what it answers is awaited."""

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """What happens to it, as :meth:`Jobs.events` has it."""
        return self._connection.follow(self.id, after=after)

    async def wait(self, on_event: Callable[[Event], None] | None = None, *, timeout: float | None = None) -> JobView:
        """Wait until the job has ended, as :meth:`Tuning.wait` does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        async for event in self._connection.follow(self.id, deadline=deadline):
            if on_event is not None:
                on_event(event)
        return await self.job()


class Client(_Client[Connection]):
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


class AsyncClient(_Client[AsyncConnection]):
    """An AutoKV server. A context manager, or :meth:`close` it; takes what :class:`Client` takes.

    What a method of :class:`Client` answers is awaited here; lists and events are gone through by ``async for``.
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
        """Submit a job, as :meth:`Client.tune` does."""
        return AsyncTuning(self, await self.jobs.submit(await self.uploaded(**fields), key=key))

    async def tuning(self, job: str) -> AsyncTuning:
        """A job that was submitted before, as :meth:`Client.tuning` has it."""
        return AsyncTuning(self, await self.jobs.get(job))

    async def close(self) -> None:
        """Let go of every connection."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
