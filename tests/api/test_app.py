"""The application around its routes: figures, logs, readiness, and what it does by itself."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from autokv.api import logs
from autokv.api.app import create_app
from autokv.hardware import catalog
from autokv.storage import Database
from autokv.storage.tables import JobRow

if TYPE_CHECKING:
    from tests.api.conftest import StandIn

Submit = Callable[..., dict[str, Any]]
Patience = Callable[[Callable[[], object]], None]
on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(client: TestClient) -> Figures:
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Figures, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@on_both
def test_figures_are_those_of_the_database(client: TestClient, submit: Submit, worker: StandIn) -> None:
    for _ in range(3):
        submit()
    worker.finish(worker.claim(), trials=4)
    worker.claim()
    found = figures(client)
    states = {state: value(found, "autokv_jobs", state=state) for state in ("queued", "running", "done")}
    assert states == {"queued": 1, "running": 1, "done": 1}
    assert value(found, "autokv_workers", state="ready") == 2
    assert value(found, "autokv_trials_total") == 4
    assert value(found, "autokv_queue_oldest_age_seconds") >= 0
    assert value(found, "autokv_database_up") == 1


def test_requests_are_counted_by_route_never_by_path(client: TestClient, submit: Submit) -> None:
    for _ in range(3):
        client.get(f"/v1/jobs/{submit()['id']}")
    client.get("/v1/jobs/000000000000")
    client.get("/v1/surprise/1")
    client.get("/v1/surprise/2")
    found = figures(client)
    route = "/v1/jobs/{job_id}"
    assert value(found, "autokv_http_requests_total", method="GET", route=route, status="200") == 3
    assert value(found, "autokv_http_requests_total", method="GET", route=route, status="404") == 1
    assert value(found, "autokv_http_requests_total", method="GET", route="unmatched", status="404") == 2
    assert value(found, "autokv_http_request_duration_seconds_count", method="GET", route=route) == 4
    assert {name for name, _ in found if not name.startswith("autokv_")} == set()
    assert {dict(labels).get("route", "/") for _, labels in found} == {"/", "/v1/jobs", route, "unmatched"}


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged meanwhile, line by line."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.install(stream)
    try:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_the_log_is_json_with_the_ids_of_requests_and_jobs(
    client: TestClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    headers = {"X-Request-ID": "deploy-17"}
    job = client.post("/v1/jobs", json={"model": "tiny"}, headers=headers).json()["id"]
    client.get(f"/v1/jobs/{job}")
    client.get("/v1/jobs/%0afake")
    submitted, shown, odd = (line for line in lines() if line["logger"] == "autokv.access")
    assert (submitted["request_id"], submitted["job_id"], submitted["status"]) == ("deploy-17", job, 202)
    assert (submitted["method"], submitted["route"]) == ("POST", "/v1/jobs")
    assert (shown["job_id"], shown["route"], shown["level"]) == (job, "/v1/jobs/{job_id}", "INFO")
    assert shown["seconds"] > 0
    assert (odd["status"], "\n" in odd["message"]) == (422, True)


@on_both
def test_a_server_is_ready_while_the_schema_is_its_own(client: TestClient, database: Database) -> None:
    assert client.get("/readyz").json() == {"status": "ok"}
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE autokv_version SET version_num = '0002'")
    response = client.get("/readyz")
    assert (response.status_code, response.json()["type"]) == (503, "urn:autokv:problem:unavailable")
    assert client.get("/healthz").status_code == 200


@on_both
def test_a_server_alone_takes_jobs_from_workers_that_are_gone(
    url: str, monkeypatch: pytest.MonkeyPatch, patience: Patience
) -> None:
    monkeypatch.setenv("AUTOKV_LEASE_SECONDS", "0.5")
    monkeypatch.setenv("AUTOKV_HEARTBEAT_SECONDS", "0.1")
    app = create_app(url)
    with TestClient(app) as client:
        database: Database = app.state.database
        job = client.post("/v1/jobs", json={"model": "tiny"}).json()["id"]
        profile = catalog.sheets()["l4"].profile().to_dict()
        worker = database.workers.register(
            host="elsewhere",
            process=1,
            device="cpu",
            labels={},
            profile=profile,
            versions={},
            seconds=600,
        )
        claim = database.queue.claim(worker, lambda _: True, 3600)
        assert claim is not None
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "running"
        assert database.queue.heartbeat(claim.lease, 0.001)
        patience(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "queued")
        assert client.get(f"/v1/jobs/{job}").json()["attempts"][0]["outcome"] == "lost"


def test_a_server_forgets_jobs_that_ended_long_ago(
    url: str, monkeypatch: pytest.MonkeyPatch, patience: Patience
) -> None:
    monkeypatch.setenv("AUTOKV_LEASE_SECONDS", "0.5")
    monkeypatch.setenv("AUTOKV_HEARTBEAT_SECONDS", "0.1")
    monkeypatch.setenv("AUTOKV_RETENTION_DAYS", "1")
    monkeypatch.setattr("autokv.api.app.RETENTION_SECONDS", 0.0)
    app = create_app(url)
    with TestClient(app) as client:
        database: Database = app.state.database
        old, new = (client.post("/v1/jobs", json={"model": "tiny"}).json()["id"] for _ in range(2))
        for job in (old, new):
            client.post(f"/v1/jobs/{job}/cancel")
        with database.writing() as session:
            long_ago = datetime.now(UTC) - timedelta(days=2)
            session.execute(update(JobRow).where(JobRow.id == old).values(finished_at=long_ago))
        patience(lambda: client.get(f"/v1/jobs/{old}").status_code == 404)
        assert client.get(f"/v1/jobs/{new}").status_code == 200


def test_a_server_loads_no_torch() -> None:
    code = "import sys, autokv.api; print(sorted({'torch', 'transformers', 'optuna'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
