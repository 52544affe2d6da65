"""Jobs over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import event
from sqlalchemy.engine import Engine

from autokv.api.app import create_app
from autokv.hardware import catalog
from autokv.jobs.selector import Selector
from autokv.storage import Database
from autokv.tuning.request import TuningRequest

if TYPE_CHECKING:
    from tests.api.conftest import StandIn

Submit = Callable[..., dict[str, Any]]
Patience = Callable[[Callable[[], object]], None]
on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
SPACE = {
    "name": "mine",
    "stages": {"eviction": [{"method": "knorm", "keep_ratio": {"low": 0.2, "high": 0.8}}]},
}


def condition(job: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in job["conditions"] if one["type"] == kind)
    return found


def follow(client: TestClient, path: str, **params: str | int | list[str]) -> Iterator[dict[str, Any]]:
    """Every item of a list, page by page."""
    cursor: str | None = None
    while True:
        query = params if cursor is None else {**params, "cursor": cursor}
        response = client.get(path, params=query)
        assert response.status_code == 200, response.text
        yield from response.json()["items"]
        cursor = response.json()["next"]
        if cursor is None:
            return


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of the databases meanwhile."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


# --- submitting


@on_both
def test_a_submitted_job_is_where_its_location_says_and_outlives_the_server(url: str) -> None:
    with TestClient(create_app(url)) as first:
        response = first.post("/v1/jobs", json={"model": "tiny", "seed": 7})
    assert response.status_code == 202
    with TestClient(create_app(url)) as second:
        shown = second.get(response.headers["Location"]).json()
    assert shown["id"] == response.json()["id"]
    assert (shown["state"], shown["request"]["seed"], shown["submission"]["seed"]) == ("queued", 7, 7)


def test_what_a_submission_leaves_open_is_stored_as_left_open(submit: Submit, database: Database) -> None:
    job = submit(workload=None)
    assert database.jobs.find(job["id"]).submission == {"model": "tiny", "trials": 3, "workload": None}
    assert job["submission"]["space"] == "balanced"


@on_both
def test_one_key_is_one_job_however_often_and_at_once_it_comes(client: TestClient) -> None:
    barrier = threading.Barrier(8)

    def send(_: int) -> Response:
        barrier.wait()
        return client.post("/v1/jobs", json={"model": "tiny"}, headers={"Idempotency-Key": "nightly"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(list(follow(client, "/v1/jobs"))) == 1


def test_a_key_with_another_body_is_refused_and_stores_nothing(client: TestClient) -> None:
    headers = {"Idempotency-Key": "nightly"}
    client.post("/v1/jobs", json={"model": "tiny"}, headers=headers)
    again = client.post("/v1/jobs", json={"model": "other"}, headers=headers)
    assert (again.status_code, again.json()["type"]) == (422, "urn:autokv:problem:key-reused")
    assert again.json()["errors"][0]["field"] == "Idempotency-Key"
    assert [job["submission"]["model"] for job in follow(client, "/v1/jobs")] == ["tiny"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"workload": "000000000000"}, "workload"),
        ({"prompts": "000000000000"}, "prompts"),
        ({"workload": "PROMPTS"}, "workload"),
        ({"workload": "TRACE", "hardware": "no-such-device"}, "hardware"),
        ({"workload": "TRACE", "hardware": "/etc/passwd"}, "hardware"),
        ({"workload": "TRACE", "objectives": ["kl_divergence", "tpot_ms"]}, "rate"),
        ({"workload": "TRACE", "scenario": "haiku"}, "scenario"),
        ({"model": "/etc/passwd"}, "model"),
        ({"model": "../secrets"}, "model"),
        ({"model": "a/../../b"}, "model"),
        ({"workload": "TRACE", "tokenizer": "/etc/passwd"}, "tokenizer"),
        ({"workload": "TRACE", "tokenizer": "../secrets"}, "tokenizer"),
        ({"workload": "TRACE", "time_unit": "h"}, "time_unit"),
        ({"hash_block_size": 16}, "body"),
        ({"block_size": 16}, "body"),
        ({"space": "/etc/passwd"}, "space"),
        ({"space": {"name": "x"}}, "space: stages"),
        ({"space": {**SPACE, "description": "\ud800"}}, "space"),
        ({"trials": 10**9}, "trials"),
        ({"trials": 0}, "trials"),
        ({"timeout": 1e300}, "timeout"),
        ({"kv_memory": 1e999}, "kv_memory"),
        ({"seed": "x"}, "seed"),
        ({"objectives": ["speed"]}, "body"),
        ({"labels": {"zone": "a b"}}, "labels.zone"),
        ({"labels": {f"l{index}": "a" for index in range(17)}}, "labels"),
        ({"budget": 3}, "budget"),
    ],
)
def test_a_submission_that_cannot_run_is_refused_with_its_field(
    plain: TestClient, fields: dict[str, Any], field: str
) -> None:
    assert isinstance(plain.app, FastAPI)
    database: Database = plain.app.state.database
    ids = {
        "TRACE": database.uploads.add("trace", "trace.csv", [b"x"], {"requests_per_s": None})[0].id,
        "PROMPTS": database.uploads.add("prompts", "prompts.jsonl", [b"y"], {})[0].id,
    }
    known = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in fields.items()}
    body = json.dumps({"model": "tiny", **known})
    for path in ("/v1/jobs", "/v1/jobs/validate"):
        response = plain.post(path, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["field"] == field
        assert response.json()["remedy"]
    assert list(follow(plain, "/v1/jobs")) == []


def test_a_space_that_is_nested_without_end_is_refused(plain: TestClient) -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = {"name": deep}
    response = plain.post("/v1/jobs", json={"model": "tiny", "space": deep})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "space")


def test_a_space_may_be_spelled_out(submit: Submit, database: Database) -> None:
    job = submit(space=SPACE)
    assert job["request"]["space"] == "inline"
    assert (database.jobs.find(job["id"]).submission or {})["space"] == SPACE


# --- who can run it


def test_a_job_says_at_once_that_no_worker_fits_and_later_that_one_does(
    client: TestClient, submit: Submit, worker: StandIn
) -> None:
    job = submit(labels={"zone": "eu"})
    assert condition(job, "WorkerAvailable")["reason"] == "NoMatchingWorker"
    assert "zone=eu" in condition(job, "WorkerAvailable")["message"]
    worker.register(zone="us")
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert condition(shown, "WorkerAvailable")["status"] is False
    worker.register(zone="eu", tier="batch")
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert (condition(shown, "WorkerAvailable")["status"], condition(shown, "WorkerAvailable")["reason"]) == (
        True,
        "Matched",
    )


@pytest.mark.parametrize("named", ["catalog", "stored"])
def test_hardware_chooses_the_workers_of_that_device_unless_it_is_to_be_estimated(
    submit: Submit, database: Database, named: str
) -> None:
    trace, _ = database.uploads.add("trace", "trace.csv", [b"x"], {})
    sheet = catalog.sheets()["l4"]
    profile = sheet.profile()
    stored, _ = database.profiles.add(profile.to_dict(), profile.name, "uploaded")
    hardware = "l4" if named == "catalog" else stored.id
    job = database.jobs.find(submit(workload=trace.id, hardware=hardware)["id"])
    assert job.profile == (None if named == "catalog" else stored.id)
    selector = Selector.parse(job.selector or "")
    other = catalog.sheets()["h100-sxm"].profile()
    assert selector.fits(profile.fingerprint, "whatever", {})
    assert selector.fits("0" * 16, profile.name, {})
    assert not selector.fits(other.fingerprint, other.name, {})
    anywhere = database.jobs.find(submit(workload=trace.id, hardware=hardware, estimate=True)["id"])
    assert Selector.parse(anywhere.selector or "").fits(other.fingerprint, other.name, {})
    assert anywhere.submission == {
        "model": "tiny",
        "trials": 3,
        "workload": trace.id,
        "hardware": hardware,
        "run_on": "any",
    }


def test_the_device_to_run_on_is_chosen_apart_from_the_one_to_serve_on(
    client: TestClient, submit: Submit, database: Database
) -> None:
    trace, _ = database.uploads.add("trace", "trace.csv", [b"x"], {})
    l4, h100 = (catalog.sheets()[name].profile() for name in ("l4", "h100-sxm"))
    stored, _ = database.profiles.add(l4.to_dict(), l4.name, "uploaded")
    for run_on in ("l4", stored.id):
        for served in ({}, {"workload": trace.id}, {"workload": trace.id, "hardware": "h100-sxm"}):
            fields = {"model": "tiny", **served, "run_on": run_on}
            job = database.jobs.find(submit(**fields)["id"])
            selector = Selector.parse(job.selector or "")
            assert selector.fits(l4.fingerprint, l4.name, {})
            assert not selector.fits(h100.fingerprint, h100.name, {})
            assert job.request.hardware == served.get("hardware", "here")
            note = f"waits for a worker on {l4.name}"
            predicted = f"{note}; the serving costs of {h100.name} are predicted"
            notes = client.post("/v1/jobs/validate", json=fields).json()["notes"]
            assert (predicted if "hardware" in served else note) in notes
    refused = client.post("/v1/jobs", json={"model": "tiny", "run_on": "abacus"}).json()
    assert (refused["errors"][0]["field"], "`any`" in refused["remedy"]) == ("run_on", True)
    refused = client.post("/v1/jobs", json={"model": "tiny", "hardware": "l4"}).json()
    assert "choose the device to run on by run_on" in str(refused)


def test_a_job_that_was_stored_with_the_earlier_field_is_shown_with_the_field_now(
    client: TestClient, database: Database
) -> None:
    for earlier, now in ((True, "any"), (False, None)):
        request = TuningRequest(model="tiny")
        submission = {"model": "tiny", "estimate": earlier}
        job, _ = database.queue.submit(request, submission=submission, selector=Selector().to_json())
        assert client.get(f"/v1/jobs/{job.id}").json()["submission"]["run_on"] == now


@on_both
def test_validating_stores_nothing_and_says_who_would_run_it_and_how_long(
    client: TestClient, submit: Submit, worker: StandIn, database: Database
) -> None:
    before = client.post("/v1/jobs/validate", json={"model": "tiny", "trials": 30}).json()
    assert (before["seconds"], before["workers"]["ready"], before["queue_ahead"]) == (None, 0, 0)
    done = submit()
    worker.finish(worker.claim(), trials=3)
    submit()
    after = client.post("/v1/jobs/validate", json={"model": "tiny", "trials": 30}).json()
    job = database.jobs.find(done["id"])
    assert job.started is not None
    assert job.finished is not None
    assert after["seconds"] == pytest.approx((job.finished - job.started).total_seconds() / 3 * 30)
    assert (after["workers"]["ready"], after["queue_ahead"]) == (1, 1)
    assert after["request"]["trials"] == 30
    assert len(list(follow(client, "/v1/jobs"))) == 2


@on_both
def test_a_place_in_the_queue_is_counted_among_the_jobs_for_the_same_workers(
    client: TestClient, submit: Submit, worker: StandIn
) -> None:
    first, second = submit(), submit()
    apart = submit(labels={"zone": "eu"})
    places = [client.get(f"/v1/jobs/{job['id']}").json()["queue"] for job in (first, second, apart)]
    assert places == [{"position": 1, "length": 2}, {"position": 2, "length": 2}, {"position": 1, "length": 1}]
    worker.claim()
    assert client.get(f"/v1/jobs/{first['id']}").json()["queue"] is None
    assert client.get(f"/v1/jobs/{second['id']}").json()["queue"] == {"position": 1, "length": 1}


# --- lists


@on_both
def test_pages_show_every_job_once_while_jobs_are_submitted(client: TestClient, submit: Submit) -> None:
    jobs = [submit(seed=seed)["id"] for seed in range(7)]
    seen = []
    for job in follow(client, "/v1/jobs", limit=2):
        seen.append(job["id"])
        submit(seed=99)
    assert seen == jobs[::-1]


@on_both
def test_filters_compare_what_was_submitted_and_hold_over_pages(
    client: TestClient, submit: Submit, worker: StandIn
) -> None:
    tiny = [submit(seed=seed)["id"] for seed in range(3)]
    other = submit(model="other")["id"]
    client.post(f"/v1/jobs/{tiny[1]}/cancel")
    assert [job["id"] for job in follow(client, "/v1/jobs", model="other")] == [other]
    assert [job["id"] for job in follow(client, "/v1/jobs", model="tiny", state="queued", limit=1)] == [
        tiny[2],
        tiny[0],
    ]
    both = follow(client, "/v1/jobs", state=["cancelled", "queued"], model="tiny")
    assert [job["id"] for job in both] == tiny[::-1]
    assert list(follow(client, "/v1/jobs", hardware="l4")) == []


def test_a_cursor_of_other_filters_is_refused(client: TestClient, submit: Submit) -> None:
    for seed in range(3):
        submit(seed=seed)
    cursor = client.get("/v1/jobs", params={"limit": 1}).json()["next"]
    refused = client.get("/v1/jobs", params={"limit": 1, "cursor": cursor, "state": "queued"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "cursor")
    assert client.get("/v1/jobs", params={"limit": 2, "cursor": cursor}).status_code == 200


@on_both
def test_a_list_asks_the_database_as_often_for_many_jobs_as_for_few(
    client: TestClient, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autokv.api.views.FLEET_SECONDS", 3600.0)
    submit()
    with statements() as few:
        client.get("/v1/jobs")
    for seed in range(9):
        submit(seed=seed, labels={"zone": str(seed)})
    with statements() as many:
        assert len(client.get("/v1/jobs").json()["items"]) == 10
    asked = [len([one for one in seen if one.startswith("SELECT")]) for seen in (few, many)]
    assert asked[0] == asked[1]


# --- stopping, running again, forgetting


@on_both
def test_cancelling_takes_a_running_job_from_its_worker_at_once_and_twice_is_once(
    client: TestClient, submit: Submit, worker: StandIn, database: Database
) -> None:
    job = submit()
    claim = worker.claim()
    for _ in range(2):
        answer = client.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert database.queue.heartbeat(claim.lease, 30) is False
    kinds = [event.kind for event in database.events.of(job["id"])]
    assert kinds == ["queued", "started", "cancelled"]
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert shown["attempts"][0]["outcome"] == "cancelled"
    assert condition(shown, "Finished")["status"] is True


@on_both
def test_a_job_that_failed_is_retried_with_its_trials(
    client: TestClient, submit: Submit, worker: StandIn, database: Database
) -> None:
    job = submit()
    claim = worker.claim()
    worker.store(claim, 0, 1)
    database.queue.fail(claim.lease, "the disk broke")
    assert client.get(f"/v1/jobs/{job['id']}").json()["reason"] == "the disk broke"
    for _ in range(2):
        again = client.post(f"/v1/jobs/{job['id']}/retry").json()
        assert (again["state"], again["trials"], again["reason"]) == ("queued", 2, None)


def test_what_a_job_s_state_forbids_is_a_conflict(client: TestClient, submit: Submit, worker: StandIn) -> None:
    done = submit()["id"]
    worker.finish(worker.claim())
    queued = submit()["id"]
    for method, path in (("POST", f"{done}/cancel"), ("POST", f"{done}/retry"), ("DELETE", queued)):
        answer = client.request(method, f"/v1/jobs/{path}")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:autokv:problem:conflict")
    assert client.get(f"/v1/jobs/{queued}").json()["state"] == "queued"


def test_a_deleted_job_is_gone_with_what_belonged_to_it(client: TestClient, submit: Submit, worker: StandIn) -> None:
    job = submit()["id"]
    worker.finish(worker.claim())
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    for path in ("", "/trials", "/front", "/report.html", "/events"):
        assert client.get(f"/v1/jobs/{job}{path}").status_code == 404
    assert client.delete(f"/v1/jobs/{job}").status_code == 404


def test_a_job_of_the_command_line_is_shown_and_can_be_cancelled(
    client: TestClient, database: Database, worker: StandIn
) -> None:
    job = database.queue.submit(TuningRequest(model="tiny"))[0].id
    command = worker.register()
    lease = database.queue.take(command, job, 600).lease
    shown = client.get(f"/v1/jobs/{job}").json()
    assert (shown["state"], shown["submission"], shown["worker"]) == ("running", None, command)
    assert [attempt["worker"] for attempt in shown["attempts"]] == [command]
    for method, path in (("POST", f"{job}/retry"), ("DELETE", job)):
        assert client.request(method, f"/v1/jobs/{path}").status_code == 409
    assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert not database.queue.heartbeat(lease, 600)
    for method, path in (("POST", f"{job}/retry"), ("DELETE", job)):
        assert client.request(method, f"/v1/jobs/{path}").status_code == 409


# --- waiting


@on_both
@pytest.mark.parametrize("how", ["submit", "show"])
def test_a_wait_ends_with_the_job(
    client: TestClient, database: Database, worker: StandIn, patience: Patience, how: str
) -> None:
    def work() -> None:
        patience(lambda: database.queue.waiting())
        worker.finish(worker.claim())

    thread = threading.Thread(target=work)
    thread.start()
    headers = {"Prefer": "respond-async, wait=60"}
    if how == "submit":
        answer = client.post("/v1/jobs", json={"model": "tiny"}, headers=headers)
    else:
        location = client.post("/v1/jobs", json={"model": "tiny"}).headers["Location"]
        answer = client.get(location, headers=headers)
    thread.join()
    assert (answer.status_code, answer.json()["state"]) == (200, "done")
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.json()["recommended"]


def test_a_wait_that_was_too_short_answers_with_the_job_as_it_stands(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json={"model": "tiny"}, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=1"


# --- what was found


@on_both
def test_trials_come_by_number_page_by_page_without_what_each_prompt_gave(
    client: TestClient, submit: Submit, worker: StandIn
) -> None:
    job = submit(trials=8)["id"]
    claim = worker.claim()
    records = worker.store(claim, *range(7))
    found = list(follow(client, f"/v1/jobs/{job}/trials", limit=3))
    assert [trial["number"] for trial in found] == list(range(7))
    for trial, record in zip(found, records, strict=True):
        assert (trial["state"], trial["reason"]) == (record.state, record.reason)
        if record.measurement is not None:
            mean = record.measurement.metrics["kl_divergence"].mean
            assert trial["metrics"]["kl_divergence"]["mean"] == pytest.approx(mean)
            assert record.config is not None
            assert trial["digest"] == record.config.digest
        else:
            assert trial["metrics"] is None
    assert client.get(f"/v1/jobs/{job}").json()["trials"] == 7


@on_both
def test_a_front_names_the_configurations_to_download(
    client: TestClient, submit: Submit, worker: StandIn, database: Database
) -> None:
    job = submit(trials=6)["id"]
    assert client.get(f"/v1/jobs/{job}/front").status_code == 404
    result = worker.finish(worker.claim(), trials=6)
    front = client.get(f"/v1/jobs/{job}/front").json()
    assert front["recommended"] == result.recommended
    assert [point["trial"] for point in front["points"]] == [point.trial for point in result.front]
    for point, expected in zip(front["points"], result.front, strict=True):
        stored = database.configurations.find(point["configuration"])
        assert stored.digest == point["digest"] == expected.calibration.config.digest
        assert point["roles"] == list(stored.roles)
        mean = expected.calibration.metrics["kl_divergence"].mean
        assert point["calibration"]["kl_divergence"]["mean"] == pytest.approx(mean)
        assert point["validation"]["kl_divergence"]["mean"] == pytest.approx(mean)
    shown = client.get(f"/v1/jobs/{job}").json()
    assert shown["recommended"] == front["points"][0]["configuration"]


def test_a_report_is_sent_once_while_it_is_the_same(client: TestClient, submit: Submit, worker: StandIn) -> None:
    job = submit()["id"]
    worker.finish(worker.claim())
    first = client.get(f"/v1/jobs/{job}/report.html")
    assert first.headers["Content-Type"].startswith("text/html")
    assert job in first.text
    again = client.get(f"/v1/jobs/{job}/report.html", headers={"If-None-Match": f'"other", W/{first.headers["ETag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/v1/jobs/{job}/report.html", headers={"If-None-Match": "unquoted"}).status_code == 422
