"""Whatever is killed, an accepted job ends as if nothing had been: no trial lost, none twice, no process left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from autokv.client import Client

if TYPE_CHECKING:
    from autokv.storage import Database
    from tests.conftest import PostgresqlServer
    from tests.service.conftest import Service

Until = Callable[[str, Callable[[], Any]], Any]
Shorten = Callable[["Database", str, int], int]
ENDLESS = 10_000
"""Trials of a job that is to last until the test shortens it."""
MORE = 4
"""Trials after the last kill."""
KILLS = ["child"] * 3 + ["worker"] + ["serve"] * 8 + ["postgresql"] * 7
"""In any order; the last is a worker."""


def check_ended_right(service: Service, job_id: str, trials: int) -> None:
    """A job is done with ``trials`` finished trials, and everything that is told of it agrees."""
    job = service.job(job_id)
    assert job["state"] == "done", job
    with service.database() as database:
        stored = database.trials.of(job_id)
        events = database.events.of(job_id, limit=100_000)
    assert [record.number for record in stored] == list(range(len(stored)))
    assert sum(record.state != "infeasible" for record in stored) == trials
    assert job["trials"] == trials
    assert job["worker"] is None

    assert [event.number for event in events] == list(range(1, len(events) + 1))
    told = [event.data["number"] for event in events if event.kind == "trial"]
    assert told == [record.number for record in stored]
    kinds = [event.kind for event in events]
    assert (kinds.count("queued"), kinds.count("done"), kinds[-1]) == (1, 1, "done")
    assert kinds.count("started") == len(job["attempts"])
    assert [attempt["number"] for attempt in job["attempts"]] == list(range(1, len(job["attempts"]) + 1))
    assert job["attempts"][-1]["outcome"] == "done"
    assert {attempt["outcome"] for attempt in job["attempts"][:-1]} <= {"crashed", "lost", "released"}

    configuration = service.http.get(f"/v1/configurations/{job['recommended']}").json()
    assert configuration["job"] == job_id
    front = service.http.get(f"/v1/jobs/{job_id}/front").json()
    assert configuration["digest"] == front["recommended"]
    numbers = {point["trial"] for point in front["points"]}
    assert numbers <= set(told)


def test_a_killed_server_has_kept_what_it_did_not_answer(service: Service, until: Until) -> None:
    service.serve()
    submission = service.submission()
    headers = {"Idempotency-Key": "nightly", "Prefer": "wait=60"}
    failures: list[Exception] = []

    def submit() -> None:
        try:
            httpx2.post(f"{service.url}/v1/jobs", json=submission, headers=headers, timeout=120)
        except httpx2.TransportError as error:
            failures.append(error)

    with service.database() as database:
        waiting = threading.Thread(target=submit)
        waiting.start()
        # The job is committed, and its answer is held back: no worker is there to finish it.
        (job,) = until("the job", lambda: database.jobs.list() or None)
        service.kill()
        waiting.join()
        assert len(failures) == 1

        service.serve()
        answer = service.http.post("/v1/jobs", json=submission, headers={"Idempotency-Key": "nightly"})
        assert (answer.status_code, answer.json()["id"]) == (202, job.id)
        assert [stored.id for stored in database.jobs.list()] == [job.id]
        other = service.http.post("/v1/jobs", json={**submission, "seed": 1}, headers={"Idempotency-Key": "nightly"})
        assert (other.status_code, other.json()["type"]) == (422, "urn:autokv:problem:key-reused")
        assert len(database.jobs.list()) == 1


@pytest.mark.parametrize("service", ["sqlite"], indirect=True)
def test_one_process_tree_survives_the_loss_of_each_of_its_processes(
    service: Service, until: Until, shorten: Shorten
) -> None:
    service.serve(workers=1)
    job_id = service.submit(trials=ENDLESS)

    def trials() -> int:
        return int(service.job(job_id)["trials"])

    until("a trial", trials)
    for worker in service.living("worker"):
        worker.kill()
    before = trials()
    until("a trial of another worker", lambda: trials() > before)
    service.kill()
    until("the end of what the server had started", lambda: not service.living())
    with service.database() as database:
        wanted = shorten(database, job_id, MORE)
    service.serve(workers=1)
    service.ended(job_id)
    check_ended_right(service, job_id, wanted)
    assert [attempt["outcome"] for attempt in service.job(job_id)["attempts"]][-1] == "done"
    assert service.terminate() == 0
    assert service.living() == []


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("service", ["postgresql"], indirect=True)
def test_twenty_kills_in_a_row(
    service: Service, postgresql_server: PostgresqlServer, until: Until, shorten: Shorten
) -> None:
    """An attempt is killed when it has stored something: three in a row that had not would fail the job. The last to be
    killed is the worker: nobody runs the job then."""
    chance = random.Random(7)
    kills = [*chance.sample(KILLS, len(KILLS)), "worker"]
    service.serve()
    service.worker()
    job_id = service.submit(trials=ENDLESS, seed=3)
    seen: list[tuple[int, str]] = []

    def follow() -> None:
        with Client(service.url) as client:
            seen.extend((event.number, event.kind) for event in client.jobs.events(job_id))

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    stored = 0

    def has_gone_on() -> bool:
        service.keep_worker()
        with service.database() as database:
            return database.jobs.get(job_id).trials > stored

    wanted = ENDLESS
    for number, victim in enumerate(kills, start=1):
        if victim in {"child", "worker"}:
            until("a trial", has_gone_on)
        time.sleep(chance.uniform(0, 0.5))
        if victim == "child":
            until("an attempt to kill", service.kill_child)
        elif victim == "postgresql":
            postgresql_server.stop("immediate")
            time.sleep(chance.uniform(0, 1))
            postgresql_server.start()
        else:
            service.kill(victim)
        with service.database() as database:
            assert database.jobs.get(job_id).state in {"queued", "running"}, kills
            if number == len(kills):
                until("the end of the attempt", lambda: not service.living("autokv.jobs.attempt"))
                wanted = shorten(database, job_id, MORE)
            stored = database.jobs.get(job_id).trials
        if victim == "worker":
            service.worker()
        elif victim == "serve":
            service.serve()
    until("a trial", has_gone_on)
    service.ended(job_id)
    check_ended_right(service, job_id, wanted)
    with service.database() as database:
        events = database.events.of(job_id, limit=100_000)
    following.join(60)
    assert seen == [(event.number, event.kind) for event in events]
    assert service.terminate("worker") == 0
    assert service.terminate() == 0
    assert service.living() == []
