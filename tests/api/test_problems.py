"""Whatever is wrong with a request: one shape, with the field and what to do."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from autokv.api.middleware import MAX_BODY_BYTES
from autokv.errors import UnavailableError
from autokv.storage import Database
from autokv.wire import Problem

JSON = {"Content-Type": "application/json"}
ID = "0" * 12


def problem(response: Response, status: int, kind: str) -> Problem:
    """The problem of a response, whose shape is checked."""
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
    body = response.json()
    assert body.keys() == Problem.model_fields.keys()
    found = Problem.model_validate(body)
    assert (found.status, found.type) == (status, f"urn:autokv:problem:{kind}")
    assert found.request_id == response.headers["X-Request-ID"]
    assert found.detail.isprintable()
    return found


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("GET", "/v1/nothing", "not-found", 404),
        ("GET", "/nothing/%0d%0a/at%ff/all", "not-found", 404),
        ("GET", f"/v1/jobs/{ID}", "not-found", 404),
        ("DELETE", f"/v1/jobs/{ID}", "not-found", 404),
        ("POST", f"/v1/jobs/{ID}/cancel", "not-found", 404),
        ("POST", f"/v1/jobs/{ID}/retry", "not-found", 404),
        ("GET", f"/v1/jobs/{ID}/events", "not-found", 404),
        ("GET", f"/v1/jobs/{ID}/trials", "not-found", 404),
        ("GET", f"/v1/jobs/{ID}/front", "not-found", 404),
        ("GET", f"/v1/jobs/{ID}/report.html", "not-found", 404),
        ("GET", "/v1/jobs/%00", "invalid", 422),
        ("GET", "/v1/jobs/' OR 1=1 --", "invalid", 422),
        ("PATCH", "/v1/jobs", "method-not-allowed", 405),
        ("PUT", f"/v1/jobs/{ID}", "method-not-allowed", 405),
        ("GET", "/v1/jobs?limit=0", "invalid", 422),
        ("GET", "/v1/jobs?limit=201", "invalid", 422),
        ("GET", "/v1/jobs?limit=x", "invalid", 422),
        ("GET", "/v1/jobs?state=sleeping", "invalid", 422),
        ("GET", "/v1/jobs?cursor=x", "invalid", 422),
        ("GET", "/v1/jobs?cursor=%00", "invalid", 422),
        ("GET", "/v1/jobs?model=%00", "invalid", 422),
        ("GET", "/v1/jobs?stat=done", "invalid", 422),
        ("GET", "/healthz?verbose=1", "invalid", 422),
    ],
)
def test_what_is_not_there_or_not_taken_is_a_problem(
    plain: TestClient, method: str, path: str, kind: str, status: int
) -> None:
    found = problem(plain.request(method, path), status, kind)
    assert found.remedy
    if status == 422:
        assert found.errors[0].field


@pytest.mark.parametrize(
    ("body", "headers", "status", "kind"),
    [
        (b"{", JSON, 400, "unreadable"),
        (b"\xff\xfe\x00", JSON, 400, "unreadable"),
        (b"[" * 100_000, JSON, 400, "unreadable"),
        (b'{"seed": ' + b"9" * 5000 + b"}", JSON, 400, "unreadable"),
        (b"", JSON, 422, "invalid"),
        (b"null", JSON, 422, "invalid"),
        (b"[]", JSON, 422, "invalid"),
        (b"{}", JSON, 422, "invalid"),
        (b'{"model": "tiny", "model2": 1}', JSON, 422, "invalid"),
        (b'{"model": "tiny", "kv_memory": NaN}', JSON, 422, "invalid"),
        (b'{"model": "\\ud800"}', JSON, 422, "invalid"),
        (b'{"model": "a\\u0000b"}', JSON, 422, "invalid"),
        (b'{"model": "tiny"}', {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b'{"model": "tiny"}', {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        (b'{"model": "tiny"}', {}, 415, "unsupported-media-type"),
        (b" " * (MAX_BODY_BYTES + 1), JSON, 413, "too-large"),
        (b'{"model": "tiny"}', {**JSON, "Idempotency-Key": "k" * 256}, 422, "invalid"),
        (b'{"model": "tiny"}', {**JSON, "Idempotency-Key": "two words"}, 422, "invalid"),
        (b'{"model": "tiny"}', {**JSON, "Prefer": "wait=soon"}, 422, "invalid"),
    ],
)
def test_a_body_that_cannot_be_taken_is_a_problem_and_nothing_is_stored(
    plain: TestClient, body: bytes, headers: dict[str, str], status: int, kind: str
) -> None:
    problem(plain.post("/v1/jobs", content=body, headers=headers), status, kind)
    assert plain.get("/v1/jobs").json()["items"] == []


def test_a_body_that_hides_its_size_is_cut_off_at_the_limit(plain: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b" " * (MAX_BODY_BYTES // 4)

    response = plain.post("/v1/jobs", content=endless(), headers=JSON)
    assert str(MAX_BODY_BYTES) in problem(response, 413, "too-large").detail


def test_a_body_of_exactly_the_limit_is_read(plain: TestClient) -> None:
    response = plain.post("/v1/jobs/validate", content=b'{"model": "tiny"}'.ljust(MAX_BODY_BYTES), headers=JSON)
    assert response.status_code == 200, response.text


def test_a_path_that_is_not_there_is_not_found_whatever_is_sent_to_it(plain: TestClient) -> None:
    problem(plain.post("/v1/nothing", content=b"x" * 100, headers={"Content-Type": "text/plain"}), 404, "not-found")


def test_every_wrong_field_is_named(plain: TestClient) -> None:
    body = {"model": "", "trials": 0, "seed": -1, "labels": {"a": "?"}, "surprise": 1}
    found = problem(plain.post("/v1/jobs", json=body), 422, "invalid")
    assert {one.field for one in found.errors} == {"model", "trials", "seed", "labels.a", "surprise"}


def test_a_method_that_is_not_allowed_comes_with_those_that_are(plain: TestClient) -> None:
    assert plain.put(f"/v1/jobs/{ID}").headers["Allow"] == "DELETE, GET"
    assert plain.delete("/v1/jobs").headers["Allow"] == "GET, POST"


def test_a_request_keeps_its_caller_s_id_and_otherwise_gets_one(plain: TestClient) -> None:
    given = plain.get("/v1/nothing", headers={"X-Request-ID": "deploy-17/a"})
    assert problem(given, 404, "not-found").request_id == "deploy-17/a"
    made = {
        plain.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"] for bad in ("", "a b", "i" * 129)
    }
    assert len(made) == 3
    assert all(one.isalnum() for one in made)


@pytest.mark.parametrize("path", ["/v1/jobs", f"/v1/jobs/{ID}", f"/v1/jobs/{ID}/events", "/readyz"])
def test_a_database_that_is_away_is_said_so_with_when_to_come_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("the database cannot be reached", field="postgresql://db", remedy="wait for it")

    monkeypatch.setattr(Database, "_translated", away)
    response = client.get(path)
    found = problem(response, 503, "unavailable")
    assert found.remedy or path == "/readyz"
    assert ("postgresql://db" in found.detail) == (path == "/readyz")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/healthz").json() == {"status": "ok"}
    assert "autokv_database_up 0.0" in client.get("/metrics").text


def test_what_nobody_foresaw_is_a_500_that_tells_nothing_but_its_id(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    app = client.app
    assert isinstance(app, FastAPI)

    @app.get("/v1/broken")
    def broken() -> None:
        raise ZeroDivisionError("the secret")

    with caplog.at_level(logging.ERROR, "autokv.errors"):
        response = client.get("/v1/broken")
    found = problem(response, 500, "failed")
    assert "secret" not in response.text
    record = caplog.records[-1]
    assert vars(record)["request_id"] == found.request_id
    assert record.exc_info is not None


def test_a_problem_is_read_by_the_same_model_that_the_client_uses(plain: TestClient) -> None:
    text = plain.get("/v1/nothing").text
    assert json.loads(Problem.model_validate_json(text).model_dump_json()) == json.loads(text)
