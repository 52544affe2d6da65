"""Following a job: every event once and in order, however often the connection is cut."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from autokv.api.waiting import Hub, Seen
from autokv.errors import UnavailableError
from autokv.hardware import catalog
from autokv.storage import Database
from autokv.storage.events import Events, StoredEvent
from autokv.storage.queue import Claim
from autokv.wire import JobState

if TYPE_CHECKING:
    from tests.api.conftest import StandIn

Submit = Callable[..., dict[str, Any]]
Patience = Callable[[Callable[[], object]], None]
Server = tuple[str, FastAPI]
on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


def read(text: str) -> list[dict[str, Any]]:
    """The events of a stream, as its specification says to read one."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            data = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (str(data["number"]), data["kind"])
            found.append(data)
    return found


def stored(database: Database, job: str) -> list[dict[str, Any]]:
    return [
        {"number": one.number, "kind": one.kind, "job": job, "data": json.loads(json.dumps(one.data))}
        for one in database.events.of(job)
    ]


def told(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name != "time"} for event in events]


@pytest.fixture
def ended(submit: Submit, worker: StandIn, database: Database) -> str:
    """A job that is done, with some events."""
    job = str(submit()["id"])
    claim = worker.claim()
    for number in range(5):
        database.queue.message(claim.lease, f"line {number}\nof two")
    database.queue.progress(claim.lease, {"phase": "searching", "trials_done": 1, "hypervolume": float("nan")})
    worker.finish(claim)
    return job


@on_both
def test_a_stream_of_a_job_that_has_ended_tells_all_of_it_and_ends(
    client: TestClient, ended: str, database: Database
) -> None:
    response = client.get(f"/v1/jobs/{ended}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    events = read(response.text)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "done"
    progress = next(event for event in events if event["kind"] == "progress")
    assert progress["data"]["hypervolume"] is None
    expected = stored(database, ended)
    assert [event["kind"] for event in events] == [event["kind"] for event in expected]
    messages = [event["data"] for event in events if event["kind"] == "message"]
    assert messages == [event["data"] for event in expected if event["kind"] == "message"]


def test_a_stream_goes_on_behind_any_event_and_there_is_nothing_behind_the_last(
    client: TestClient, ended: str, database: Database
) -> None:
    last = database.events.latest([ended])[ended][0]
    whole = read(client.get(f"/v1/jobs/{ended}/events").text)
    for number in range(1, last):
        by_header = client.get(f"/v1/jobs/{ended}/events", headers={"Last-Event-ID": str(number)})
        by_query = client.get(f"/v1/jobs/{ended}/events", params={"after": number})
        assert read(by_header.text) == read(by_query.text) == whole[number:]
    over = client.get(f"/v1/jobs/{ended}/events", params={"after": 1}, headers={"Last-Event-ID": str(last)})
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.parametrize(
    ("headers", "params", "field"),
    [
        ({"Last-Event-ID": "99"}, {}, "Last-Event-ID"),
        ({"Last-Event-ID": "one"}, {}, "Last-Event-ID"),
        ({}, {"after": 99}, "after"),
        ({}, {"after": -1}, "after"),
        ({}, {"since": 1}, "since"),
    ],
)
def test_a_place_that_the_log_does_not_have_is_refused(
    client: TestClient, ended: str, headers: dict[str, str], params: dict[str, int], field: str
) -> None:
    response = client.get(f"/v1/jobs/{ended}/events", params=params, headers=headers)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


async def _follow(url: str, job: str, after: int = 0) -> str:
    async with (
        httpx2.AsyncClient(base_url=url, timeout=120) as client,
        client.stream("GET", f"/v1/jobs/{job}/events", params={"after": after}) as response,
    ):
        assert response.status_code == 200
        return "".join([text async for text in response.aiter_text()])


@on_both
def test_forty_who_follow_a_job_while_it_runs_read_the_same_and_the_database_is_asked_for_one(
    server: Server, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, app = server
    database: Database = app.state.database
    job, claim = _running(database, address)
    asked: list[int] = []
    original = Events.of

    def counted(self: Events, job_id: str, after: int = 0, limit: int = 500) -> list[StoredEvent]:
        asked.append(after)
        return original(self, job_id, after, limit)

    monkeypatch.setattr(Events, "of", counted)
    followers = 40

    def write() -> None:
        patience(lambda: app.state.hub.streams == followers)
        for number in range(60):
            database.queue.message(claim.lease, f"line {number}")
        database.queue.fail(claim.lease, "it is over")

    async def everybody() -> list[str]:
        return await asyncio.gather(*(_follow(address, job) for _ in range(followers)))

    thread = threading.Thread(target=write)
    thread.start()
    texts = asyncio.run(everybody())
    thread.join()
    seen = [told(read(text)) for text in texts]
    assert all(one == seen[0] for one in seen)
    monkeypatch.undo()
    assert seen[0] == stored(database, job)
    # Each reads the beginning once; what happens afterwards is read once for all.
    behind = [after for after in asked if after > 2]
    assert len(behind) <= 62
    patience(lambda: app.state.hub.streams == 0)


def test_a_stream_that_is_cut_goes_on_where_it_was(server: Server, patience: Patience) -> None:
    address, app = server
    database: Database = app.state.database
    job, claim = _running(database, address)
    for number in range(20):
        database.queue.message(claim.lease, f"line {number}")

    def cut(after: int) -> list[dict[str, Any]]:
        """Read a few events, and hang up."""
        with httpx2.Client(base_url=address, timeout=120) as client:
            headers = {"Last-Event-ID": str(after)}
            with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as response:
                text = ""
                for part in response.iter_raw():
                    text += part.decode()
                    whole = text.rpartition("\n\n")[0]
                    if whole:
                        return read(whole + "\n\n")[:3]
        raise AssertionError("the stream ended")

    seen: list[dict[str, Any]] = []
    while len(seen) < 22:
        seen += cut(seen[-1]["number"] if seen else 0)
    assert told(seen) == stored(database, job)
    patience(lambda: app.state.hub.streams == 0)


def test_an_idle_stream_says_that_it_lives_and_outlasts_a_database_that_is_away(
    server: Server, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, app = server
    database: Database = app.state.database
    monkeypatch.setattr("autokv.api.events.IDLE_SECONDS", 0.05)
    monkeypatch.setattr("autokv.api.waiting.TROUBLE_SECONDS", 0.05)
    job, claim = _running(database, address)
    away, original = threading.Event(), Events.latest
    away_for = iter(range(4))

    def unreachable(self: Events, job_ids: Iterable[str]) -> dict[str, tuple[int, JobState]]:
        if away.is_set() and next(away_for, None) is not None:
            raise UnavailableError("the database cannot be reached")
        return original(self, job_ids)

    monkeypatch.setattr(Events, "latest", unreachable)
    with (
        httpx2.Client(base_url=address, timeout=120) as client,
        client.stream("GET", f"/v1/jobs/{job}/events", params={"after": 2}) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith(":")
        away.set()
        patience(lambda: next(away_for, None) is None)
        database.queue.message(claim.lease, "back")
        database.queue.fail(claim.lease, "it is over")
        kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert kinds == ["message", "failed"]


def test_streams_and_waits_end_when_the_server_is_about_to_stop(submit: Submit, database: Database) -> None:
    job = str(submit()["id"])
    seen = database.events.latest([job])[job]

    async def follow() -> tuple[list[bytes], bool]:
        hub = Hub(database)
        async with hub.running():
            streams = [asyncio.create_task(_all(hub, job, seen)) for _ in range(3)]
            wait = asyncio.create_task(hub.ended(job, seen, 3600))
            while hub.streams < 3:
                await asyncio.sleep(0)
            hub.close()
            found = await asyncio.gather(*streams)
            assert hub.streams == 0
            return found[0], await wait

    told_so_far, has_ended = asyncio.run(follow())
    assert ([event["kind"] for event in read(b"".join(told_so_far).decode())], has_ended) == (["queued"], False)


async def _all(hub: Hub, job: str, seen: Seen) -> list[bytes]:
    return [line async for lines in hub.lines(job, seen, 0, 3600) for line in lines]


def test_a_stream_ends_when_its_job_is_cancelled_or_deleted_under_it(server: Server, patience: Patience) -> None:
    address, app = server
    database: Database = app.state.database
    job, _ = _running(database, address)

    def end() -> None:
        patience(lambda: app.state.hub.streams == 1)
        database.queue.cancel(job, "enough")
        database.queue.delete(job)

    thread = threading.Thread(target=end)
    thread.start()
    events = read(asyncio.run(_follow(address, job)))
    thread.join()
    assert [event["kind"] for event in events][:2] == ["queued", "started"]
    assert httpx2.get(f"{address}/v1/jobs/{job}/events").status_code == 404


def _running(database: Database, address: str) -> tuple[str, Claim]:
    """A job that a worker holds; it has the events ``queued`` and ``started``."""
    job = httpx2.post(f"{address}/v1/jobs", json={"model": "tiny"}).json()["id"]
    worker = database.workers.register(
        host="elsewhere",
        process=1,
        device="cpu",
        labels={},
        profile=catalog.sheets()["l4"].profile().to_dict(),
        versions={},
        seconds=600,
    )
    claim = database.queue.claim(worker, lambda _: True, 600)
    assert claim is not None
    return job, claim
