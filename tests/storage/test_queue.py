"""The queue: who gets which job, what a job tells, and what cannot be done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import ConflictError, KeyReusedError, LeaseLostError, NotFoundError, UnavailableError
from autokv.storage import Database, Job, Lease
from autokv.storage.queue import Queue
from autokv.storage.service_tables import WorkerRow
from autokv.storage.tables import Base, JobRow
from autokv.storage.trials import Trials
from autokv.storage.tuning_results import Results
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import FrontPoint, TrialRecord, TuningResult

PROFILE = {"name": "a device", "fingerprint": "0123456789abcdef"}
Record = Callable[..., TrialRecord]


def submit(database: Database, selector: str = "any", **changes: object) -> Job:
    request = TuningRequest(model="tiny", **changes)
    return database.queue.submit(request, submission={"model": "tiny", **changes}, selector=selector)[0]


def take(database: Database, worker: str) -> Lease:
    claim = database.queue.claim(worker, lambda selector: True, 600)
    assert claim is not None
    return claim.lease


def alter(database: Database, job_id: str, **values: object) -> None:
    with database.writing() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(**values))


def kinds(database: Database, job_id: str) -> list[str]:
    return [event.kind for event in database.events.of(job_id)]


def test_a_job_comes_back_as_it_was_submitted(database: Database) -> None:
    job = submit(database, seed=3, trials=7)
    assert job == database.jobs.find(job.id)
    assert (job.state, job.local, job.selector, job.attempts) == ("queued", False, "any", 0)
    assert job.request == TuningRequest(model="tiny", seed=3, trials=7)
    assert job.submission == {"model": "tiny", "seed": 3, "trials": 7}
    with pytest.raises(NotFoundError, match=r"job ffffffffffff: there is no such job"):
        database.jobs.find("ffffffffffff")
    with pytest.raises(NotFoundError):
        database.jobs.find(job.id[:6])


def test_the_oldest_that_fits_comes_first(database: Database, worker: str) -> None:
    a, b, again = submit(database, "a"), submit(database, "b"), submit(database, "a")
    asked: list[str] = []

    def fits(selector: str) -> bool:
        asked.append(selector)
        return selector == "a"

    claims = [database.queue.claim(worker, fits, 600) for _ in range(3)]
    assert [claim and claim.job.id for claim in claims] == [a.id, again.id, None]
    assert asked.count("a") == 2
    assert database.jobs.find(b.id).state == "queued"
    first = claims[0]
    assert first is not None
    # Who runs it is said with how long ago it was heard of.
    assert replace(first.job, runner=None) == replace(database.jobs.find(a.id), runner=None)
    assert (first.lease.attempt, first.job.worker) == (1, worker)
    assert database.workers.get(worker).job in {a.id, again.id}


def test_the_same_key_gives_the_same_job(database: Database) -> None:
    def send(seed: int, key: str) -> tuple[Job, bool]:
        request = TuningRequest(model="tiny", seed=seed)
        return database.queue.submit(request, submission={"seed": seed}, selector="any", key=key)

    job, created = send(1, "one")
    assert (created, send(1, "one")) == (True, (job, False))
    with pytest.raises(KeyReusedError, match=r"Idempotency-Key: 'one' came with another request .*use a new key"):
        send(2, "one")
    assert send(1, "two")[0].id != job.id
    assert kinds(database, job.id) == ["queued"]


def test_a_submission_that_refers_to_nothing_is_stored_not_at_all(database: Database) -> None:
    with pytest.raises(ConflictError):
        database.queue.submit(TuningRequest(model="tiny"), submission={}, selector="any", trace="f" * 12, key="key")
    assert database.jobs.page() == ((), None)
    assert database.queue.submit(TuningRequest(model="tiny"), submission={"a": 1}, selector="any", key="key")[1]


def test_a_commands_own_job_is_left_alone(database: Database, job_id: str, worker: str) -> None:
    queue = database.queue
    assert queue.claim(worker, lambda selector: True, 600) is None
    assert (queue.look(job_id).place, queue.waiting()) == (None, {})
    lease = queue.take(worker, job_id, 600).lease
    assert queue.claim(worker, lambda selector: True, 600) is None
    alter(database, job_id, lease_until=datetime(2020, 1, 1, tzinfo=UTC))
    assert queue.reap() == ()
    for change in (queue.retry, queue.delete):
        with pytest.raises(ConflictError, match="is the command line's"):
            change(job_id)
    queue.release(lease, "stopped")
    assert database.jobs.get(job_id).state == "interrupted"
    assert queue.claim(worker, lambda selector: True, 600) is None
    assert kinds(database, job_id) == ["queued", "started", "released"]
    assert queue.look(job_id).place is None
    job = submit(database)
    with pytest.raises(ConflictError, match="is run by a worker"):
        queue.take(worker, job.id, 600)


def test_a_commands_own_job_goes_through_the_states_of_any_other(
    database: Database, job_id: str, worker: str, record: Record
) -> None:
    queue = database.queue
    queue.crashed(queue.take(worker, job_id, 600).lease, "signal 9")
    assert (database.jobs.find(job_id).state, database.jobs.find(job_id).crashes) == ("interrupted", 1)
    lease = queue.take(worker, job_id, 600).lease
    assert queue.cancel(job_id, "not needed any more")
    assert not queue.heartbeat(lease, 600)
    with pytest.raises(LeaseLostError, match="was cancelled"):
        database.trials.add(job_id, record(0), lease=lease)
    assert not queue.cancel(job_id, "again")
    assert database.jobs.find(job_id).state == "cancelled"
    queue.fail(queue.take(worker, job_id, 600).lease, "no memory")
    alter(database, job_id, state="interrupted", conditions=None)  # As an earlier version left it.
    lease = queue.take(worker, job_id, 600).lease
    found = database.jobs.find(job_id)
    assert (found.state, found.reason, found.worker, found.finished) == ("running", None, worker, None)
    database.results.save(job_id, TuningResult((), [], [], None), lease=lease)
    assert [one.outcome for one in queue.look(job_id).attempts] == ["crashed", "cancelled", "failed", "done"]
    ends = ["crashed", "cancelled", "failed", "done"]
    assert kinds(database, job_id) == [kind for end in ends for kind in ("queued", "started", end)]
    held = {kind: condition["status"] for kind, condition in (database.jobs.find(job_id).conditions or {}).items()}
    assert held == {"Accepted": True, "Running": False, "Finished": True}


def test_cancelling_a_running_job_fences_its_owner(database: Database, worker: str, record: Record) -> None:
    job = submit(database)
    lease = take(database, worker)
    database.trials.add(job.id, record(0), lease=lease)
    assert database.queue.cancel(job.id, "not needed any more")
    assert not database.queue.heartbeat(lease, 600)
    for write in (
        lambda: database.trials.add(job.id, record(1), lease=lease),
        lambda: database.results.save(job.id, TuningResult((), [record(0)], [], None), lease=lease),
        lambda: database.queue.message(lease, "hello"),
        lambda: database.queue.progress(lease, {}),
        lambda: database.queue.describe(lease, model={}, hardware={}, workload={}, versions={}),
        lambda: database.queue.release(lease, "x"),
        lambda: database.queue.crashed(lease, "x"),
        lambda: database.queue.fail(lease, "x"),
    ):
        with pytest.raises(LeaseLostError, match="was cancelled"):
            write()
    found = database.jobs.find(job.id)
    assert (found.state, found.reason, found.trials, found.runner) == ("cancelled", "not needed any more", 1, None)
    assert kinds(database, job.id) == ["queued", "started", "trial", "cancelled"]
    assert database.queue.retry(job.id)
    assert database.jobs.find(job.id).reason is None
    assert take(database, worker).attempt == 2


def test_a_lease_past_its_end_changes_nothing_once_another_has_the_job(
    database: Database, worker: str, record: Record
) -> None:
    job = submit(database)
    sleeper = take(database, worker)
    alter(database, job.id, lease_until=datetime(2020, 1, 1, tzinfo=UTC))
    assert database.queue.reap() == (job.id,)
    assert database.queue.reap() == ()
    assert not database.queue.heartbeat(sleeper, 600)
    assert database.jobs.find(job.id).state == "queued"
    taken = take(database, worker)
    before = database.jobs.find(job.id), database.events.of(job.id)
    with pytest.raises(LeaseLostError, match="another process has taken this job over"):
        database.trials.add(job.id, record(0), lease=sleeper)
    with pytest.raises(LeaseLostError):
        database.queue.release(sleeper, "late")
    assert not database.queue.heartbeat(sleeper, 600)
    after = database.jobs.find(job.id), database.events.of(job.id)
    assert [(one.state, one.last_event, one.attempts) for one in (before[0], after[0])] == [("running", 4, 2)] * 2
    assert before[1] == after[1]
    assert database.queue.heartbeat(taken, 600)
    attempts = database.queue.look(job.id).attempts
    assert [(one.outcome, one.reason) for one in attempts] == [
        ("lost", "its worker was not heard of any more"),
        (None, None),
    ]


def test_a_poison_job_fails_with_its_last_reason(database: Database, worker: str, record: Record) -> None:
    job = submit(database)
    for number in range(2):
        database.queue.crashed(take(database, worker), f"crash {number}")
    database.queue.release(take(database, worker), "drained")
    lease = take(database, worker)
    database.trials.add(job.id, record(0), lease=lease)
    database.queue.crashed(lease, "after some progress")
    assert database.jobs.find(job.id).crashes == 0
    for number in range(3):
        database.queue.crashed(take(database, worker), f"signal {number}")
    found = database.jobs.find(job.id)
    assert found.state == "failed"
    assert found.reason is not None
    assert found.reason.endswith("signal 2")
    assert kinds(database, job.id)[-2:] == ["crashed", "failed"]
    assert database.queue.claim(worker, lambda selector: True, 600) is None


def test_what_a_job_runs_on_is_stored_by_its_first_attempt(database: Database, worker: str) -> None:
    job = submit(database)
    lease = take(database, worker)
    decided = TuningRequest(model="tiny", objectives=("kl_divergence",))
    facts: dict[str, dict[str, Any]] = {
        "model": {"layers": 3},
        "hardware": {"kind": "cpu"},
        "workload": {"contexts": [1]},
        "versions": {"a": "1"},
    }
    database.queue.describe(lease, **facts, request=decided)
    database.queue.release(lease, "drained")
    lease = take(database, worker)
    database.queue.describe(lease, model={}, hardware={}, workload={}, versions={}, request=job.request)
    found = database.jobs.find(job.id)
    assert (found.model, found.hardware, found.workload, found.versions) == tuple(facts.values())
    assert found.request == decided
    listed = database.jobs.page()[0][0]
    assert (listed.model, listed.hardware, listed.workload) == (None, None, None)


def test_conditions_tell_since_when(database: Database, worker: str) -> None:
    job = submit(database)
    first = database.jobs.find(job.id).conditions
    _wait_for_the_clock(database)
    lease = take(database, worker)
    second = database.jobs.find(job.id).conditions
    _wait_for_the_clock(database)
    database.queue.fail(lease, "model: is unknown")
    third = database.jobs.find(job.id).conditions
    assert first
    assert second
    assert third
    assert first["Accepted"] == second["Accepted"] == third["Accepted"]
    assert (second["Running"]["status"], second["Running"]["reason"]) == (True, "Started")
    assert first["Running"]["time"] < second["Running"]["time"] < third["Finished"]["time"]
    assert second["Finished"]["time"] == first["Finished"]["time"]
    assert {**third["Finished"], "time": None} == {
        "status": True,
        "reason": "Failed",
        "message": "model: is unknown",
        "time": None,
    }


def _wait_for_the_clock(database: Database) -> None:
    """Until the database's time has passed on."""
    from autokv.storage.repository import now

    def time() -> datetime:
        with database.reading() as session:
            return now(session)

    begun = time()
    while time() <= begun:
        pass


def test_pages_and_filters(database: Database, worker: str, job_id: str) -> None:
    jobs = [submit(database, seed=number, trials=number + 1) for number in range(7)]
    other = database.queue.submit(TuningRequest(model="other"), submission={}, selector="any")[0]
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = database.jobs.page(limit=3, cursor=cursor)
        seen += [job.id for job in page]
        if cursor is None:
            break
        submit(database)  # What is new does not shift the pages that follow.
    everything = sorted([*jobs, other, database.jobs.find(job_id)], key=lambda job: (job.created, job.id), reverse=True)
    assert seen == [job.id for job in everything]
    assert [job.id for job in database.jobs.page(model="other")[0]] == [other.id]
    assert database.jobs.page(model="other", states=("done",)) == ((), None)
    assert {job.id for job in database.jobs.page(hardware="here", limit=100)[0]} >= set(seen)
    assert database.jobs.page(workload="trace") == ((), None)
    lease = take(database, worker)
    assert [job.id for job in database.jobs.page(states=("running", "done"))[0]] == [lease.job_id]


def test_a_deleted_job_leaves_nothing(database: Database, worker: str, record: Record) -> None:
    before = _counts(database)
    job, _ = database.queue.submit(TuningRequest(model="tiny"), submission={}, selector="any", key="key")
    with pytest.raises(ConflictError, match=r"is queued; cancel it first"):
        database.queue.delete(job.id)
    _finish(database, worker, record)
    assert _counts(database) != before
    assert len({table for table, count in _counts(database).items() if count}) >= 9
    database.queue.delete(job.id)
    assert _counts(database) == before
    assert database.events.of(job.id) == []
    with pytest.raises(NotFoundError):
        database.queue.delete(job.id)


def test_what_an_alias_needs_stays(database: Database, worker: str, record: Record) -> None:
    kept, gone = submit(database), submit(database)
    for _ in range(2):
        _finish(database, worker, record)
    mine = next(one for one in database.configurations.list() if one.job_id == kept.id)
    theirs = next(one for one in database.configurations.list() if one.job_id == gone.id)
    database.aliases.create("chat-prod", mine.id, "")
    with pytest.raises(ConflictError, match=r"alias 'chat-prod' stands or stood for; delete the alias first"):
        database.queue.delete(kept.id)
    database.aliases.move("chat-prod", theirs.id, "", 1)
    with pytest.raises(ConflictError, match="chat-prod"):
        database.queue.delete(kept.id)
    database.aliases.delete("chat-prod", 2)
    database.queue.delete(kept.id)


def test_what_is_kept_long_enough_expires(database: Database, worker: str, record: Record, job_id: str) -> None:
    old, needed, young, waiting = (submit(database) for _ in range(4))
    for _ in range(3):
        _finish(database, worker, record)
    database.queue.fail(database.queue.take(worker, job_id, 600).lease, "no memory")
    configuration = next(one for one in database.configurations.list() if one.job_id == needed.id)
    database.aliases.create("chat-prod", configuration.id, "")
    for one in (old.id, needed.id, job_id):
        alter(database, one, finished_at=datetime.now(UTC) - timedelta(days=40))
    alter(database, young.id, finished_at=datetime.now(UTC) - timedelta(days=20))
    idle = database.workers.register(
        host="elsewhere", process=1, device="cpu", labels={}, profile=PROFILE, versions={}, seconds=600
    )
    with database.writing() as session:
        session.execute(update(WorkerRow).values(until=datetime.now(UTC) - timedelta(days=31)))
    assert database.queue.expire(30) == (old.id,)
    assert database.queue.expire(30) == ()
    assert [one.id for one in database.workers.list()] == [worker]
    assert idle != worker
    assert {job.id for job in database.jobs.list()} == {needed.id, young.id, waiting.id, job_id}


def _finish(database: Database, worker: str, record: Record) -> None:
    lease = take(database, worker)
    stored = record(0)
    database.queue.describe(lease, model={"layers": 3}, hardware={}, workload={}, versions={})
    database.trials.add(lease.job_id, stored, lease=lease)
    assert stored.measurement is not None
    assert stored.config is not None
    point = FrontPoint(0, "tpe", stored.measurement, stored.measurement, feasible=True)
    result = TuningResult(("kl_divergence",), [stored], [point], stored.config.digest, reason="the only one")
    document = ConfigurationDocument(pipeline=CompressionConfig.model_validate(stored.config.model_dump()).pipeline)
    database.results.save(lease.job_id, result, [document], lease=lease)
    found = database.jobs.find(lease.job_id)
    assert (found.state, found.reason, found.runner) == ("done", "the only one", None)
    last = database.events.of(lease.job_id)[-1]
    assert (last.kind, last.data) == (
        "done",
        {"recommended": stored.config.digest, "trials": 1, "reason": "the only one"},
    )
    assert database.queue.look(lease.job_id).attempts[-1].outcome == "done"


def _counts(database: Database) -> dict[str, int]:
    """Rows in every table, but for those of workers and models, which are not a job's."""
    shared = {"workers", "hardware_profiles", "models"}
    with database.reading() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Base.metadata.sorted_tables
            if table.name not in shared
        }


class Outage:
    """A database that is away for a moment, before a transaction or between its commit and the answer."""

    def __init__(self, database: Database, when: str) -> None:
        self.database, self.when, self.left = database, when, 2

    @contextmanager
    def writing(self) -> Iterator[Session]:
        away = self.left > 0
        self.left -= 1
        if away and self.when == "before":
            raise UnavailableError("the server restarts")
        with self.database.writing() as session:
            yield session
        if away:
            raise UnavailableError("the connection was lost")


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_an_attempt_writes_is_stored_once_through_an_outage(
    database: Database, worker: str, record: Record, when: str
) -> None:
    def queue() -> Queue:
        return Queue(database.reading, Outage(database, when).writing)

    job = submit(database)
    for end in ("release", "crashed"):
        getattr(queue(), end)(take(database, worker), end)
    lease = take(database, worker)
    queue().describe(lease, model={"layers": 3}, hardware={}, workload={}, versions={})
    queue().message(lease, "hello")
    queue().message(lease, "hello")
    queue().progress(lease, {"phase": "searching"})
    Trials(database.reading, Outage(database, when).writing).add(job.id, record(0), lease=lease)
    result = TuningResult((), [record(0)], [], None, reason="nothing meets them", hypervolume=[])
    Results(database.reading, Outage(database, when).writing).save(job.id, result, lease=lease)
    failing = submit(database)
    queue().fail(take(database, worker), "model: is unknown")
    assert kinds(database, failing.id) == ["queued", "started", "failed"]
    returned = ["started", "released", "started", "crashed", "started"]
    assert kinds(database, job.id) == ["queued", *returned, "message", "message", "progress", "trial", "done"]
    assert [attempt.outcome for attempt in database.queue.look(job.id).attempts] == ["released", "crashed", "done"]
    assert database.results.of(job.id) == result


def test_events_are_read_in_pages(database: Database, worker: str) -> None:
    job = submit(database)
    lease = take(database, worker)
    for number in range(5):
        database.queue.message(lease, f"line {number}")
    first = database.events.of(job.id, limit=3)
    rest = database.events.of(job.id, after=first[-1].number)
    assert [event.number for event in (*first, *rest)] == list(range(1, 8))
    assert [event.data["text"] for event in rest] == [f"line {number}" for number in range(1, 5)]
    assert first[1].data == {"attempt": 1, "worker": worker}
    assert all(event.time.utcoffset() == timedelta(0) for event in first)
    assert database.events.latest([job.id, "ffffffffffff"]) == {job.id: (7, "running")}
    assert database.events.latest([]) == {}
