"""Hardware profiles and workers over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml
from fastapi.testclient import TestClient

from autokv.hardware import HardwareProfile, catalog
from autokv.storage import Database

if TYPE_CHECKING:
    from tests.api.conftest import StandIn

"""The stand-in for a worker of this folder's conftest."""

L4 = catalog.sheets()["l4"]
SHEET = L4.model_dump(mode="json")


def problem(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    assert found["type"] == f"urn:autokv:problem:{kind}"
    return found


def upload(client: TestClient, document: object) -> httpx2.Response:
    return client.post(
        "/v1/hardware-profiles", content=yaml.safe_dump(document), headers={"Content-Type": "application/yaml"}
    )


def everything(client: TestClient, path: str, limit: int) -> list[dict[str, Any]]:
    """A whole list, page by page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = client.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= limit
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_profile_comes_back_as_it_was_measured(client: TestClient) -> None:
    profile = replace(L4.profile(), name="My device", source="measured")
    response = client.post("/v1/hardware-profiles", json=profile.to_dict())
    assert response.status_code == 201, response.text
    shown = response.json()
    assert response.headers["location"] == f"/v1/hardware-profiles/{shown['id']}"
    assert (shown["name"], shown["source"], shown["fingerprint"]) == ("My device", "uploaded", profile.fingerprint)
    assert HardwareProfile.from_dict(shown["profile"]) == profile
    assert client.get(response.headers["location"]).json() == shown
    again = upload(client, profile.to_dict())
    assert (again.status_code, again.json()) == (200, shown)


def test_a_data_sheet_is_taken_too(client: TestClient) -> None:
    response = upload(client, SHEET)
    assert response.status_code == 201, response.text
    assert HardwareProfile.from_dict(response.json()["profile"]) == L4.profile()


@pytest.mark.parametrize("limit", [1, 2, 5, 17, 200])
def test_the_list_has_stored_ones_then_the_catalog_s_each_once(client: TestClient, limit: int) -> None:
    stored = [upload(client, {**SHEET, "name": f"device {number}"}).json()["id"] for number in range(3)]
    found = everything(client, "/v1/hardware-profiles", limit)
    assert {one["id"] for one in found[:3]} == set(stored)
    assert [one["created"] for one in found[:3]] == sorted((one["created"] for one in found[:3]), reverse=True)
    assert [one["id"] for one in found[3:]] == list(catalog.sheets())
    for one in found[3:]:
        assert (one["source"], one["created"]) == ("catalog", None)
        assert one["fingerprint"] == catalog.sheets()[one["id"]].profile().fingerprint


def test_a_name_of_the_catalog_is_shown_and_stays(client: TestClient) -> None:
    shown = client.get("/v1/hardware-profiles/l4").json()
    assert HardwareProfile.from_dict(shown["profile"]) == L4.profile()
    assert "catalog" in problem(client.delete("/v1/hardware-profiles/l4"), 409, "conflict")["detail"]


def test_what_a_job_or_a_worker_uses_stays(
    client: TestClient, submit: Callable[..., dict[str, Any]], worker: StandIn
) -> None:
    unused, used = (upload(client, {**SHEET, "name": name}).json()["id"] for name in ("unused", "used"))
    trace = client.post("/v1/traces", content=b"num_prefill_tokens,num_decode_tokens\n10,2\n20,3\n").json()["id"]
    job = submit(hardware=used, workload=trace)["id"]
    assert job in problem(client.delete(f"/v1/hardware-profiles/{used}"), 409, "conflict")["detail"]
    assert client.delete(f"/v1/hardware-profiles/{unused}").status_code == 204
    problem(client.get(f"/v1/hardware-profiles/{unused}"), 404, "not-found")
    problem(client.delete(f"/v1/hardware-profiles/{unused}"), 404, "not-found")
    registered = worker.register()
    measured = client.get(f"/v1/workers/{registered}").json()["hardware"]
    assert registered in problem(client.delete(f"/v1/hardware-profiles/{measured}"), 409, "conflict")["detail"]


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ("{", "body", "is neither JSON nor YAML"),
        ("[]", "body", ""),
        ("", "body", ""),
        ("\udcff", "body", "is neither JSON nor YAML"),
        ("a: &a [x, x]\nb: [*a, *a]", "body", "has YAML aliases"),
        (yaml.safe_dump({**SHEET, "cores": 0}), "body.cores", "greater than or equal to 1"),
        (yaml.safe_dump({**SHEET, "colour": "red"}), "body.colour", ""),
        (yaml.safe_dump({**L4.profile().to_dict(), "memory_bytes": float("nan")}), "body.memory_bytes", ""),
        ("!!python/object/apply:os.system ['true']", "body", "is neither JSON nor YAML"),
    ],
)
def test_what_is_no_profile_is_refused_by_its_field(
    client: TestClient, body: str, field: str, detail: str, database: Database
) -> None:
    data = body.encode("utf-8", "surrogateescape")
    headers = {"Content-Type": "application/yaml"}
    found = problem(client.post("/v1/hardware-profiles", content=data, headers=headers), 422, "invalid")
    assert found["errors"][0]["field"] == field
    assert detail in found["detail"]
    assert found["remedy"]
    assert database.profiles.page() == ((), None)


def test_a_body_that_is_too_large_or_of_another_kind_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "application/yaml"}
    large = b"# " + b"x" * (1 << 16)
    problem(client.post("/v1/hardware-profiles", content=large, headers=headers), 413, "too-large")
    headers = {"Content-Type": "text/html"}
    problem(client.post("/v1/hardware-profiles", content=b"{}", headers=headers), 415, "unsupported-media-type")


def test_nested_merges_of_yaml_take_no_time(client: TestClient) -> None:
    """Each level would have ten times the keys of the one before."""
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    found = problem(
        client.post("/v1/hardware-profiles", content="\n".join(levels), headers={"Content-Type": "application/yaml"}),
        422,
        "invalid",
    )
    assert "aliases" in found["detail"]


def test_workers_are_listed_with_what_they_run(
    client: TestClient, submit: Callable[..., dict[str, Any]], worker: StandIn, database: Database
) -> None:
    stopped = worker.register(zone="a")
    database.workers.state(stopped, "stopped")
    idle = worker.register(zone="b")
    job = submit()["id"]
    claim = worker.claim()
    assert claim.job.id == job
    found = everything(client, "/v1/workers", 1)
    assert [one["state"] for one in found] == ["ready", "ready"]
    assert {one["job"] for one in found} == {job, None}
    shown = next(one for one in found if one["id"] == idle)
    assert shown["labels"] == {"zone": "b"}
    assert shown["hardware_name"] == L4.profile().name
    assert client.get(f"/v1/workers/{idle}").json() == shown
    whole = client.get("/v1/workers?all=true").json()["items"]
    assert {one["id"]: one["state"] for one in whole}[stopped] == "stopped"
    assert len(whole) == 3
    problem(client.get("/v1/workers/unknown"), 404, "not-found")
