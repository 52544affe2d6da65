"""The API over a real database of its own, on both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from autokv.api import create_app
from autokv.storage import Database

JOB = {"model": "tiny", "trials": 3}


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    with TestClient(create_app(url), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def database(client: TestClient) -> Database:
    """The one that ``client`` serves."""
    database: Database = client.app.state.database
    return database


@pytest.fixture
def submit(client: TestClient) -> Callable[..., dict[str, Any]]:
    def submit(**fields: object) -> dict[str, Any]:
        response = client.post("/v1/jobs", json={**JOB, **fields})
        assert response.status_code == 202, response.text
        return response.json()

    return submit
