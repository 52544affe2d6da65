"""Aliases over HTTP: what a deployment pipeline reads and moves."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml
from fastapi.testclient import TestClient

from autokv.config import ConfigurationDocument
from autokv.storage import Database, StoredConfiguration

if TYPE_CHECKING:
    from tests.api.conftest import StandIn

"""The stand-in for a worker of this folder's conftest."""

ALIAS = "/v1/aliases/chat-prod"
NEW = {"If-None-Match": "*"}


@pytest.fixture
def found(
    submit: Callable[..., dict[str, Any]], worker: StandIn, database: Database
) -> tuple[StoredConfiguration, ...]:
    """Four configurations of a job that is done."""
    submit(trials=6)
    claim = worker.claim()
    worker.finish(claim, trials=6)
    return database.configurations.list(job=claim.job.id)


def problem(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    told: dict[str, Any] = response.json()
    assert told["type"] == f"urn:autokv:problem:{kind}"
    assert told["remedy"]
    return told


def put(client: TestClient, configuration: str, headers: dict[str, str], **more: object) -> httpx2.Response:
    return client.put(ALIAS, json={"configuration": configuration, **more}, headers=headers)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_the_life_of_an_alias(client: TestClient, found: tuple[StoredConfiguration, ...], tmp_path: Path) -> None:
    one, two, three, _ = found
    made = put(client, one.id, NEW, note="the first")
    assert (made.status_code, made.headers["location"], made.headers["etag"]) == (201, ALIAS, '"1"')
    assert (made.json()["configuration"], made.json()["digest"]) == (one.id, one.digest)

    response = client.get(f"{ALIAS}/configuration")
    (tmp_path / "pulled.json").write_bytes(response.content)
    assert ConfigurationDocument.load(tmp_path / "pulled.json").digest == one.digest
    assert response.headers["content-location"] == f"/v1/configurations/{one.id}/document"
    tag = {"If-None-Match": response.headers["etag"]}
    assert client.get(f"{ALIAS}/configuration", headers=tag).status_code == 304

    moved = put(client, two.digest, {"If-Match": '"1"'}, note="faster")
    assert (moved.status_code, moved.headers["etag"], moved.json()["configuration"]) == (200, '"2"', two.id)
    assert client.get(f"{ALIAS}/configuration", headers=tag).status_code == 200
    put(client, three.id, {"If-Match": '"2"'})

    back = client.post(f"{ALIAS}/rollback", headers={"If-Match": '"3"'}, json={"note": "worse"})
    assert (back.status_code, back.json()["revision"], back.json()["configuration"]) == (200, 4, two.id)
    again = client.post(f"{ALIAS}/rollback", headers={"If-Match": '"4"'})
    assert again.json()["configuration"] == one.id
    assert client.get(f"{ALIAS}/configuration", headers=tag).status_code == 304, "it is what it was at first"
    problem(client.post(f"{ALIAS}/rollback", headers={"If-Match": '"5"'}), 409, "conflict")
    named = client.post(f"{ALIAS}/rollback", headers={"If-Match": '"5"'}, json={"revision": 3})
    assert named.json()["configuration"] == three.id

    history = client.get(f"{ALIAS}/history").json()["items"]
    told = [(move["revision"], move["configuration"], move["action"], move["note"]) for move in history]
    assert told == [
        (6, three.id, "rolled_back", ""),
        (5, one.id, "rolled_back", ""),
        (4, two.id, "rolled_back", "worse"),
        (3, three.id, "moved", ""),
        (2, two.id, "moved", "faster"),
        (1, one.id, "created", "the first"),
    ]
    first = client.get(f"{ALIAS}/history?limit=4").json()
    rest = client.get(f"{ALIAS}/history", params={"limit": 4, "cursor": first["next"]}).json()
    assert (first["items"] + rest["items"], rest["next"]) == (history, None)

    assert client.get("/v1/aliases").json()["items"] == [named.json()]
    problem(client.delete(ALIAS, headers={"If-Match": '"5"'}), 412, "precondition-failed")
    assert client.delete(ALIAS, headers={"If-Match": '"6"'}).status_code == 204
    for path in ("", "/configuration", "/history"):
        problem(client.get(ALIAS + path), 404, "not-found")
    assert client.get(f"/v1/configurations/{three.id}").status_code == 200


def test_nothing_is_overwritten_unseen(client: TestClient, found: tuple[StoredConfiguration, ...]) -> None:
    one, two, *_ = found
    problem(put(client, one.id, {}), 428, "precondition-required")
    problem(put(client, one.id, {"If-Match": '"1"'}), 404, "not-found")
    assert put(client, one.id, NEW).status_code == 201
    problem(put(client, two.id, NEW), 412, "precondition-failed")
    for stale in ('"0"', '"2"', '"abc"', '"1", "2"', '"99999999999999999999"', '"-1"'):
        problem(put(client, two.id, {"If-Match": stale}), 412, "precondition-failed")
        problem(client.post(f"{ALIAS}/rollback", headers={"If-Match": stale}), 412, "precondition-failed")
        problem(client.delete(ALIAS, headers={"If-Match": stale}), 412, "precondition-failed")
    for missing in ({}, {"If-Match": "*"}):
        problem(put(client, two.id, missing), 428, "precondition-required")
        problem(client.post(f"{ALIAS}/rollback", headers=missing), 428, "precondition-required")
        problem(client.delete(ALIAS, headers=missing), 428, "precondition-required")
    problem(put(client, two.id, {"If-Match": "1"}), 422, "invalid")
    problem(put(client, two.id, {"If-None-Match": '"1"'}), 422, "invalid")
    problem(put(client, two.id, {**NEW, "If-Match": '"1"'}), 422, "invalid")
    assert client.get(ALIAS).json()["configuration"] == one.id
    assert [move["revision"] for move in client.get(f"{ALIAS}/history").json()["items"]] == [1]


def test_of_many_pipelines_that_move_at_once_one_does(
    client: TestClient, found: tuple[StoredConfiguration, ...]
) -> None:
    put(client, found[0].id, NEW)
    with ThreadPoolExecutor(6) as pool:
        ends = list(pool.map(lambda n: put(client, found[n % 4].id, {"If-Match": '"1"'}).status_code, range(6)))
    assert sorted(ends) == [200, 412, 412, 412, 412, 412]


def test_an_alias_is_not_sent_again_while_it_is_the_same(
    client: TestClient, found: tuple[StoredConfiguration, ...]
) -> None:
    put(client, found[0].id, NEW)
    shown = client.get(ALIAS)
    assert (shown.headers["etag"], shown.headers["cache-control"]) == ('"1"', "private, no-cache")
    assert client.get(ALIAS, headers={"If-None-Match": 'W/"1"'}).status_code == 304
    assert client.get(ALIAS, headers={"If-None-Match": '"2"'}).status_code == 200


def test_a_pipeline_may_ask_for_yaml(client: TestClient, found: tuple[StoredConfiguration, ...]) -> None:
    put(client, found[0].id, NEW)
    text = client.get(f"{ALIAS}/configuration", headers={"Accept": "application/yaml"})
    assert text.headers["content-type"].startswith("application/yaml")
    assert ConfigurationDocument.parse(yaml.safe_load(text.content)).digest == found[0].digest
    again = {"Accept": "application/yaml", "If-None-Match": text.headers["etag"]}
    assert client.get(f"{ALIAS}/configuration", headers=again).status_code == 304
    other = {"Accept": "application/json", "If-None-Match": text.headers["etag"]}
    assert client.get(f"{ALIAS}/configuration", headers=other).status_code == 200
    problem(client.get(f"{ALIAS}/configuration", headers={"Accept": "text/html"}), 406, "not-acceptable")


def test_a_job_stays_while_an_alias_needs_it(client: TestClient, found: tuple[StoredConfiguration, ...]) -> None:
    put(client, found[0].id, NEW)
    put(client, found[1].id, {"If-Match": '"1"'})
    assert "chat-prod" in problem(client.delete(f"/v1/jobs/{found[0].job_id}"), 409, "conflict")["detail"]


@pytest.mark.parametrize("name", ["Chat", "-chat", "chat-", "a" * 101, "a b", "ä", ".."])
def test_a_name_that_no_alias_has_is_refused(
    client: TestClient, found: tuple[StoredConfiguration, ...], name: str
) -> None:
    body = {"configuration": found[0].id}
    assert client.put(f"/v1/aliases/{name}", json=body, headers=NEW).status_code in {404, 405, 422}
    assert client.get("/v1/aliases").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "configuration"),
        ({"configuration": ""}, "configuration"),
        ({"configuration": "x" * 65}, "configuration"),
        ({"configuration": 7}, "configuration"),
        ({"configuration": "0" * 12, "note": "x" * 1001}, "note"),
        ({"configuration": "0" * 12, "colour": "red"}, "colour"),
    ],
)
def test_a_body_that_is_wrong_is_refused_by_its_field(client: TestClient, body: object, field: str) -> None:
    told = problem(client.put(ALIAS, json=body, headers=NEW), 422, "invalid")
    assert told["errors"][0]["field"] == field


def test_a_configuration_that_is_not_there_is_not_pointed_at(
    client: TestClient, found: tuple[StoredConfiguration, ...]
) -> None:
    for missing in ("0" * 12, "0" * 64, found[0].digest[:7], "\u0000"):
        assert put(client, missing, NEW).status_code in {404, 422}
    problem(client.get(ALIAS), 404, "not-found")
    # The beginning of a digest is enough, and the answer names the configuration that has it.
    assert put(client, found[0].digest[:12], NEW).json()["configuration"] == found[0].id
    problem(put(client, "0" * 12, {"If-Match": '"1"'}), 404, "not-found")
    assert client.get(ALIAS).json()["revision"] == 1
