"""Configurations over HTTP."""

from __future__ import annotations

from collections.abc import Callable
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


@pytest.fixture
def found(
    submit: Callable[..., dict[str, Any]], worker: StandIn, database: Database
) -> tuple[StoredConfiguration, ...]:
    """The configurations of a job that is done, the recommended one first."""
    submit()
    claim = worker.claim()
    worker.finish(claim)
    return database.configurations.list(job=claim.job.id)


def problem(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    told: dict[str, Any] = response.json()
    assert told["type"] == f"urn:autokv:problem:{kind}"
    return told


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_configuration_is_shown_by_its_id_for_ever(
    client: TestClient, found: tuple[StoredConfiguration, ...]
) -> None:
    one = found[0]
    response = client.get(f"/v1/configurations/{one.id}")
    shown = response.json()
    assert (shown["id"], shown["digest"], shown["job"], shown["roles"]) == (
        one.id, one.digest, one.job_id, list(one.roles)
    )  # fmt: skip
    assert ConfigurationDocument.model_validate(shown["document"]) == one.document
    assert shown["etag"] == response.headers["etag"]
    assert "immutable" in response.headers["cache-control"]
    listed = client.get("/v1/configurations").json()["items"]
    assert shown in listed
    assert {item["id"] for item in listed} == {item.id for item in found}


def test_a_digest_finds_the_newest_and_is_not_kept_for_ever(
    client: TestClient, found: tuple[StoredConfiguration, ...], submit: Callable[..., dict[str, Any]], worker: StandIn
) -> None:
    before = client.get(f"/v1/configurations/{found[0].digest}")
    assert before.json()["id"] == found[0].id
    assert before.headers["cache-control"] == "private, no-cache"
    submit()
    claim = worker.claim()
    worker.finish(claim)
    after = client.get(
        f"/v1/configurations/{found[0].digest.upper()}", headers={"If-None-Match": before.headers["etag"]}
    )
    assert after.status_code == 200
    assert after.json()["job"] == claim.job.id
    assert client.get(f"/v1/configurations/{found[0].id}").json() == before.json()


def test_the_document_can_be_loaded_as_it_is_downloaded(
    client: TestClient, found: tuple[StoredConfiguration, ...], tmp_path: Path
) -> None:
    response = client.get(f"/v1/configurations/{found[0].id}/document")
    file = tmp_path / "downloaded.json"
    file.write_bytes(response.content)
    assert ConfigurationDocument.load(file).digest == found[0].digest
    assert response.headers["content-disposition"] == f'attachment; filename="{found[0].digest[:12]}.json"'


@pytest.mark.parametrize(
    ("query", "accept", "media"),
    [
        ("", None, "application/json"),
        ("", "*/*", "application/json"),
        ("", "application/json", "application/json"),
        ("", "application/yaml", "application/yaml"),
        ("", "text/yaml", "application/yaml"),
        ("", "text/html, application/yaml;q=0.5", "application/yaml"),
        ("", "application/json;q=0.1, application/yaml;q=0.9", "application/yaml"),
        ("", "application/yaml, application/json", "application/json"),
        ("", "application/json;q=0, */*;q=0, text/yaml", "application/yaml"),
        ("?format=yaml", "application/json", "application/yaml"),
        ("?format=json", "application/yaml", "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["", "/document"])
def test_json_and_yaml_say_the_same(
    client: TestClient, found: tuple[StoredConfiguration, ...], path: str, query: str, accept: str | None, media: str
) -> None:
    where = f"/v1/configurations/{found[0].id}{path}"
    headers = {"Accept": accept} if accept else {}
    response = client.get(where + query, headers=headers)
    assert response.headers["content-type"].partition(";")[0] == media
    assert response.headers["vary"] == "Accept"
    plain = client.get(where, headers={"Accept": "application/json"})
    read = yaml.safe_load(response.content) if media.endswith("yaml") else response.json()
    assert {**read, "created": None} == {**plain.json(), "created": None}
    assert (response.headers["etag"] == plain.headers["etag"]) == (media == "application/json")
    same = client.get(where + query, headers={**headers, "If-None-Match": f'"x", {response.headers["etag"]}'})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == response.headers["etag"]
    assert client.get(where + query, headers={**headers, "If-None-Match": '"other"'}).status_code == 200


def test_what_cannot_be_had_is_refused(client: TestClient, found: tuple[StoredConfiguration, ...]) -> None:
    where = f"/v1/configurations/{found[0].id}"
    for accept in ("text/html", "application/json;q=0", "image/*", "application/yaml;q=nonsense"):
        problem(client.get(where, headers={"Accept": accept}), 406, "not-acceptable")
    problem(client.get(f"{where}?format=toml"), 422, "invalid")
    problem(client.get(f"{where}?fromat=yaml"), 422, "invalid")
    problem(client.get(where, headers={"If-None-Match": "unquoted"}), 422, "invalid")
    assert client.get(f"/v1/configurations/{found[0].digest[:12]}").json()["id"] == found[0].id
    for key in (found[0].id[:6], found[0].digest[:7], "0" * 12, "0" * 64):
        problem(client.get(f"/v1/configurations/{key}"), 404, "not-found")
        problem(client.get(f"/v1/configurations/{key}/document"), 404, "not-found")
    problem(client.get("/v1/configurations/..%00"), 422, "invalid")


def test_lists_are_filtered_and_a_cursor_is_good_for_its_filters_only(
    client: TestClient, found: tuple[StoredConfiguration, ...]
) -> None:
    def ids(**filters: str) -> set[str]:
        return {one["id"] for one in client.get("/v1/configurations", params=filters).json()["items"]}

    everything = {one.id for one in found}
    recommended = {one.id for one in found if "recommended" in one.roles}
    assert len(recommended) == 1
    assert ids(job=found[0].job_id, model="tiny") == everything
    assert ids(job="0" * 12) == ids(model="other") == ids(role="knee") == ids(digest="0" * 64) == set()
    assert ids(role="recommended") == recommended == ids(digest=found[0].digest.upper())
    page = client.get("/v1/configurations", params={"limit": 1, "model": "tiny"}).json()
    assert page["next"]
    problem(client.get("/v1/configurations", params={"limit": 1, "cursor": page["next"]}), 422, "invalid")
    rest = client.get("/v1/configurations", params={"limit": 5, "model": "tiny", "cursor": page["next"]}).json()
    assert {one["id"] for one in (*page["items"], *rest["items"])} == everything
    for wrong in ({"digest": "abc"}, {"role": "a b"}, {"job": "../x"}, {"model": "\0"}, {"limit": 201}):
        problem(client.get("/v1/configurations", params=wrong), 422, "invalid")


def test_a_configuration_is_exported_to_an_engine(client: TestClient, found: tuple[StoredConfiguration, ...]) -> None:
    where = f"/v1/configurations/{found[0].id}/export"
    told = client.get(where, params={"target": "vllm", "device": "sm90"}).json()
    assert (told["target"], told["level"]) in {("vllm", level) for level in ("exact", "nearest", "not_expressible")}
    assert "vllm-serve.sh" in {artifact["name"] for artifact in told["artifacts"]}
    assert (told["level"] == "exact") == (not told["changes"])
    assert ConfigurationDocument.model_validate(told["held"])
    unknown = problem(client.get(where, params={"target": "vlm"}), 422, "invalid")
    assert "vllm" in str(unknown)
    problem(client.get(where, params={"target": "vllm", "device": "h100"}), 422, "invalid")
    problem(client.get("/v1/configurations/0123456789/export", params={"target": "vllm"}), 404, "not-found")
