"""The API over a real database of its own, and what a worker would do to its jobs."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from autokv.api.app import create_app
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.hardware import catalog
from autokv.storage import Database
from autokv.storage.queue import Claim
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

PATIENCE_SECONDS = 120


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """Of a database of its own: SQLite's, unless a test is parametrised with ``postgresql``."""
    return str(request.getfixturevalue(f"ready_{getattr(request, 'param', 'sqlite')}_url"))


@pytest.fixture
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("autokv.api.views.FLEET_SECONDS", 0.0)
    with TestClient(create_app(url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """An API that the tests of a module share, for what has nothing to do with the database."""
    url = f"sqlite:///{tmp_path_factory.mktemp('api') / 'autokv.db'}"
    with TestClient(create_app(url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def database(client: TestClient) -> Database:
    """The one that ``client`` serves."""
    assert isinstance(client.app, FastAPI)
    database: Database = client.app.state.database
    return database


@pytest.fixture
def submit(client: TestClient) -> Callable[..., dict[str, Any]]:
    """Submit a job, and what was answered."""

    def submit(**fields: object) -> dict[str, Any]:
        response = client.post("/v1/jobs", json={"model": "tiny", "trials": 3, **fields})
        assert response.status_code == 202, response.text
        found: dict[str, Any] = response.json()
        return found

    return submit


@dataclass(frozen=True)
class StandIn:
    """A worker without a model."""

    database: Database

    def register(self, device: str = "l4", **labels: str) -> str:
        profile = catalog.sheets()[device].profile()
        return self.database.workers.register(
            host="elsewhere",
            process=os.getpid(),
            device="cuda:0",
            labels=labels,
            profile=profile.to_dict(),
            versions={"autokv": "1"},
            seconds=600,
        )

    def claim(self, lease_seconds: float = 600) -> Claim:
        """The oldest job, whatever it asks for."""
        claim = self.database.queue.claim(self.register(), lambda _: True, lease_seconds)
        assert claim is not None
        return claim

    def store(self, claim: Claim, *numbers: int) -> list[TrialRecord]:
        """Finished trials of a claimed job, and one that failed."""
        records = [_record(number) for number in numbers]
        for record in records:
            self.database.trials.add(claim.job.id, record, lease=claim.lease)
        return records

    def finish(self, claim: Claim, trials: int = 3) -> TuningResult:
        """Run a claimed job to its end, with a front of the trials that did not fail."""
        records = self.store(claim, *range(trials))
        front = [
            FrontPoint(record.number, record.source, record.measurement, record.measurement, feasible=True)
            for record in records
            if record.measurement is not None
        ]
        digests = [point.calibration.config.digest for point in front]
        result = TuningResult(
            objectives=("kl_divergence", "kv_bytes_per_token"),
            trials=records,
            front=front,
            recommended=digests[0],
            named={"smallest": digests[-1]},
            reason="it is the first",
            hypervolume=[0.5] * trials,
        )
        documents = [
            ConfigurationDocument(pipeline=point.calibration.config.pipeline, model={"name": "tiny"}, hardware={})
            for point in front
        ]
        self.database.results.save(claim.job.id, result, documents, lease=claim.lease)
        return result


@pytest.fixture
def worker(database: Database) -> StandIn:
    return StandIn(database)


@contextmanager
def serving(url: str) -> Iterator[tuple[str, Any]]:
    """A real server over ``url`` in a thread: its address and its application."""
    app = create_app(url)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", app
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds; only what hangs takes long."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def server(url: str) -> Iterator[tuple[str, Any]]:
    with serving(url) as started:
        yield started


@pytest.fixture
def patience() -> Callable[[Callable[[], object]], None]:
    return wait_for


def _record(number: int) -> TrialRecord:
    if number % 3 == 2:
        return TrialRecord(number, "failed", {"keep": number}, "tpe", None, None, "it broke", 0.1)
    config = CompressionConfig.model_validate(
        {"pipeline": {"eviction": {"method": "knorm", "keep_ratio": round(0.1 + number / 100, 2)}}}
    )
    samples = [
        {"id": f"text-{index}", "kind": "text", "context_tokens": 64, "kl_divergence": 0.1 / (number + index + 1)}
        | {"kv_bytes_per_token": 1000.0 + number}
        for index in range(2)
    ]
    measurement = Measurement.of_samples(config, samples)
    return TrialRecord(number, "complete", {"keep": number}, "tpe", config, measurement, None, 0.5)
