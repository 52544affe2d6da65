"""An empty database of each kind, and made-up trials."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.storage import Database, this_host
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TrialRecord


def build_measurement(seed: int, samples: int = 3) -> Measurement:
    config = CompressionConfig.model_validate(
        {"pipeline": {"eviction": {"method": "knorm", "keep_ratio": round(0.1 + (seed % 80) / 100, 2)}}}
    )
    return Measurement.of_samples(
        config,
        [
            {
                "id": f"text-{index}",
                "kind": "text",
                "context_tokens": 512,
                "kl_divergence": 0.1 / (seed + index + 1),
                "kv_bytes_per_token": 1000.0 + seed,
            }
            for index in range(samples)
        ],
    )


def build_record(number: int, samples: int = 3) -> TrialRecord:
    measurement = build_measurement(number, samples)
    return TrialRecord(number, "complete", {"keep": number}, "tpe", measurement.config, measurement, None, 0.5)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs' / 'autokv.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a database of its own; a test that takes this runs on both kinds. It is empty, unless what opens it does not
    care how it came by its tables."""
    ready = "ready_" if "database" in request.fixturenames else ""
    return str(request.getfixturevalue(f"{ready}{request.param}_url"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with Database(url) as opened:
        yield opened


@pytest.fixture
def job_id(database: Database) -> str:
    return database.queue.submit(TuningRequest(model="tiny"))[0].id


@pytest.fixture
def record() -> Callable[..., TrialRecord]:
    return build_record


@pytest.fixture
def measurement() -> Callable[..., Measurement]:
    return build_measurement


@pytest.fixture
def worker(database: Database) -> str:
    """The id of a registered worker, which is this process."""
    return database.workers.register(
        host=this_host(),
        process=os.getpid(),
        device="cpu",
        labels={"zone": "a"},
        profile={"name": "a device", "fingerprint": "0123456789abcdef"},
        versions={"autokv": "1"},
        seconds=600,
    )
