"""Recommendations over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from autokv.hardware import catalog
from autokv.storage import Database

if TYPE_CHECKING:
    from tests.api.conftest import StandIn

"""The stand-in for a worker of this folder's conftest."""

TRACE = b"num_prefill_tokens,num_decode_tokens\n10,2\n20,3\n"


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_the_nearest_comes_first_and_says_what_it_matches(
    client: TestClient, submit: Callable[..., dict[str, Any]], worker: StandIn, database: Database
) -> None:
    trace = client.post("/v1/traces", content=TRACE).json()["id"]
    profile = catalog.sheets()["h100-sxm"].profile()

    def run(device: str, **fields: object) -> str:
        job = submit(**fields)["id"]
        claim = worker.claim()
        facts = catalog.sheets()[device].profile().to_dict()
        workload = {"trace": "chat"} if "workload" in fields else {}
        database.queue.describe(
            claim.lease, model={"name": "tiny"}, hardware=facts, workload=workload, versions={"autokv": "1"}
        )
        worker.finish(claim)
        return str(job)

    far = run("l4")
    served = run("l4", workload=trace)
    near = run("h100-sxm")
    both = run("h100-sxm", workload=trace)
    submit()

    def asked(**parameters: str) -> list[tuple[str, list[str]]]:
        response = client.get("/v1/recommendations", params={"model": "tiny", **parameters})
        assert response.status_code == 200, response.text
        assert response.json()["next"] is None
        return [(one["configuration"]["job"], one["matched"]) for one in response.json()["items"]]

    expected = [
        (both, ["model", "hardware", "workload"]),
        (near, ["model", "hardware"]),
        (served, ["model", "workload"]),
        (far, ["model"]),
    ]
    assert asked(hardware="h100-sxm", workload=trace) == expected
    assert asked(hardware=profile.name, workload="chat") == expected
    assert asked(hardware=profile.fingerprint, workload=trace) == expected
    uploaded = client.post("/v1/hardware-profiles", json=profile.to_dict()).json()["id"]
    assert asked(hardware=uploaded, workload=trace) == expected
    assert [job for job, _ in asked()] == [both, near, served, far]
    assert [matched for _, matched in asked(hardware="nothing", workload="nothing")] == [["model"]] * 4
    assert asked(limit="1", hardware="h100-sxm", workload=trace) == expected[:1]
    first = client.get("/v1/recommendations", params={"model": "tiny"}).json()["items"][0]
    assert first["reason"] == "it is the first"
    assert "recommended" in first["configuration"]["roles"]
    assert client.get(f"/v1/configurations/{first['configuration']['id']}").json() == first["configuration"]


def test_nothing_is_recommended_for_another_model(
    client: TestClient, submit: Callable[..., dict[str, Any]], worker: StandIn
) -> None:
    submit()
    worker.finish(worker.claim())
    assert client.get("/v1/recommendations?model=tin").json() == {"items": [], "next": None}
    assert client.get("/v1/recommendations").status_code == 422
    assert client.get("/v1/recommendations?model=tiny&device=l4").status_code == 422
