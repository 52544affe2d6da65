"""A server on a database of its own, a worker that makes results up, and a server that follows a script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from autokv.api.app import create_app
from autokv.client import Client
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

LEASE_SECONDS = 600.0


class Server:
    """The application behind a real socket; it may be stopped, and started again at the same address."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._thread: threading.Thread | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        app = create_app(self._database_url)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self._app, self._server = app, uvicorn.Server(config)
        bound = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._server.run, args=([bound],), daemon=True)
        self._thread.start()
        Client(self.url, retries=20).models.list()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.01)

    def stop(self) -> None:
        """End it, and every stream."""
        if self._thread is not None:
            self._server.should_exit = True
            self._app.state.hub.close()
            self._thread.join()
            self._thread = None


class ScriptedWorker:
    """Runs jobs without running anything: what it stores is made up."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.id = database.workers.register(
            host="here",
            process=1,
            device="cpu",
            labels={},
            profile={"name": "made-up", "fingerprint": "f" * 64},
            versions={},
            seconds=LEASE_SECONDS,
        )

    def claim(self) -> None:
        """Take the oldest job."""
        claim = self.database.queue.claim(self.id, lambda selector: True, LEASE_SECONDS)
        assert claim is not None
        self.job, self.lease = claim.job, claim.lease

    def trial(self, number: int) -> TrialRecord:
        """Store a trial."""
        config = CompressionConfig.model_validate(
            {"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.1 + number / 10}}}
        )
        sample = {"id": "a", "kind": "text", "context_tokens": 512, "kl_divergence": 0.1, "kv_bytes_per_token": 100.0}
        measured = Measurement.of_samples(config, [sample])
        record = TrialRecord(number, "complete", {"keep": number}, "tpe", config, measured, None, 0.5)
        self.database.trials.add(self.job.id, record, lease=self.lease)
        return record

    def finish(self, trials: int = 3, *, recommends: bool = True) -> None:
        """Store trials and a result that recommends the first of them, or none."""
        records = [self.trial(number) for number in range(trials)]
        measured = records[0].measurement
        assert measured is not None
        result = TuningResult(
            objectives=("kl_divergence",),
            trials=records,
            front=[FrontPoint(0, "tpe", measured, measured, True)],
            recommended=measured.config.digest if recommends else None,
            reason="it is the only one",
        )
        document = ConfigurationDocument(pipeline=measured.config.pipeline, model={"name": self.job.request.model})
        self.database.results.save(self.job.id, result, [document], lease=self.lease)


class Script:
    """A server that sends given bytes to one connection after another, and then closes each."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[str] = []
        """What was asked, head and body."""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(_read(connection))
                connection.sendall(answer)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


def _read(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65536)
    return (head + b"\r\n\r\n" + body).decode()


@pytest.fixture
def database_url(ready_sqlite_url: str) -> str:
    return ready_sqlite_url


@pytest.fixture
def server(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server whose workers, if there are any, have the models."""
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTOKV_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("AUTOKV_MODEL_ROOTS", raising=False)
    running = Server(database_url)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture
def worker(server: Server, database_url: str) -> Iterator[ScriptedWorker]:
    with Database(database_url) as database:
        yield ScriptedWorker(database)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Script]]:
    """``script(answer, …)``: one connection for each; the client waits a hundredth as long as it would."""
    monkeypatch.setattr("autokv.client.retries.FIRST_SECONDS", 0.0025)
    made: list[Script] = []

    def start(*answers: bytes) -> Script:
        made.append(Script(*answers))
        return made[-1]

    yield start
    for one in made:
        one.close()
