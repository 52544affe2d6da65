"""Workers, their attempts and their leases, with processes that are killed, stopped and deaf."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from autokv.hardware.catalog import sheets
from autokv.jobs.selector import Device, Selector
from autokv.storage.repository import OUTAGE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import PostgresqlServer
    from tests.jobs.conftest import Process, Workshop

Until = Callable[[str, Callable[[], Any]], Any]
Shorten = Callable[[Any, str, int], int]
on_both = pytest.mark.parametrize("workshop", ["sqlite", "postgresql"], indirect=True)


def test_a_worker_runs_what_waits_the_oldest_first(workshop: Workshop) -> None:
    jobs = [workshop.submit(trials=3) for _ in range(2)]
    worker = workshop.worker()
    for job in jobs:
        workshop.until(job, "done")
        assert workshop.outcomes(job) == ["done"]
        assert workshop.numbers(job) == [0, 1, 2]
        assert workshop.kinds(job)[:2] == ["queued", "started"]
        assert workshop.kinds(job)[-1] == "done"
    first, second = (workshop.database.queue.look(job).attempts[0] for job in jobs)
    assert first.ended is not None
    assert first.ended <= second.started
    (known,) = workshop.database.workers.list()
    assert (known.state, known.device, known.process) == ("ready", "cpu", worker.popen.pid)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert [known.state for known in workshop.database.workers.list()] == ["stopped"]


def test_a_worker_takes_what_fits_it_and_leaves_the_rest(workshop: Workshop) -> None:
    here = Device.of(sheets()["l4"].profile())
    elsewhere = workshop.submit(selector=Selector(Device("0" * 16, ("NVIDIA H100 80GB HBM3",))))
    labelled = workshop.submit(selector=Selector(None, {"zone": "b"}))
    fitting = workshop.submit(selector=Selector(here, {"zone": "a"}), trials=2)
    worker = workshop.worker(labels={"zone": "a", "tier": "x"}, once=True)
    assert worker.wait() == 0
    assert workshop.job(fitting).state == "done"
    assert [workshop.job(job).state for job in (elsewhere, labelled)] == ["queued", "queued"]
    assert workshop.worker(labels={"zone": "a"}, once=True).wait() == 0
    assert [workshop.job(job).attempts for job in (elsewhere, labelled)] == [0, 0]


@on_both
def test_random_kills_lose_nothing_and_store_nothing_twice(workshop: Workshop, until: Until, shorten: Shorten) -> None:
    kills, chance = 6, random.Random(5)
    job = workshop.submit(trials=10_000)
    worker = workshop.worker()
    for number in range(kills):
        before = workshop.job(job).trials
        workshop.until_stored(job, before + chance.randint(1, 3))
        child = worker.child()
        if number < kills - 1 and chance.random() < 0.5:
            child.kill()
            until("the next attempt", _more_attempts(workshop, job))
        else:
            worker.kill()
            psutil.wait_procs([child], timeout=60)
            assert not child.is_running(), "the process of an attempt outlived its worker"
            if number == kills - 1:
                wanted = shorten(workshop.database, job, 5)
            worker = workshop.worker()
    workshop.until(job, "done")
    assert workshop.numbers(job) == list(range(wanted))
    outcomes = workshop.outcomes(job)
    assert outcomes[-1] == "done"
    assert set(outcomes[:-1]) <= {"crashed", "lost"}
    assert len(outcomes) == kills + 1
    told = [event.data["number"] for event in workshop.database.events.of(job, limit=10_000) if event.kind == "trial"]
    assert told == list(range(wanted))


@on_both
def test_a_worker_that_sleeps_past_its_lease_changes_nothing_when_it_wakes(workshop: Workshop, until: Until) -> None:
    job = workshop.submit(trials=100)
    asleep = workshop.worker(lease=1.5)
    workshop.until_stored(job, 2)
    child = asleep.child()

    def sleeping() -> bool:
        """In the middle of a write, its lock would hold up everybody until it wakes."""
        child.suspend()
        asleep.signal(signal.SIGSTOP)
        if not workshop.is_locked():
            return True
        asleep.signal(signal.SIGCONT)
        child.resume()
        return False

    until("both to sleep", sleeping)
    workshop.worker(lease=20)
    workshop.until(job, "done")
    events, trials = workshop.database.events.of(job, limit=1000), workshop.database.trials.of(job)
    assert workshop.outcomes(job) == ["lost", "done"]
    child.resume()
    asleep.signal(signal.SIGCONT)
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()
    until("the worker to be heard of again", lambda: "ready" in _states(workshop, asleep))
    assert workshop.database.events.of(job, limit=1000) == events
    assert workshop.database.trials.of(job) == trials
    assert workshop.outcomes(job) == ["lost", "done"]
    assert [record.source for record in trials] == sorted(record.source for record in trials)
    later = workshop.submit(trials=2)
    workshop.until(later, "done")


def test_a_job_that_crashes_fails_after_three_attempts_with_its_reason(workshop: Workshop) -> None:
    job = workshop.submit("crashing")
    behind = workshop.submit(trials=2)
    workshop.worker()
    failed = workshop.until(job, "failed")
    assert workshop.outcomes(job) == ["crashed"] * 3
    assert failed.reason is not None
    assert "SIGABRT" in failed.reason
    assert "about to fall" in failed.reason
    assert workshop.kinds(job) == ["queued", *["started", "crashed"] * 3, "failed"]
    workshop.until(behind, "done")


@on_both
def test_a_worker_that_is_asked_to_stop_finishes_its_batch_and_gives_the_job_back(workshop: Workshop) -> None:
    job = workshop.submit(trials=50, batch_size=5)
    first = workshop.worker()
    workshop.until_stored(job, 6)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    given_back = workshop.job(job)
    assert given_back.state == "queued"
    assert given_back.crashes == 0
    assert given_back.trials % 5 == 0
    assert workshop.outcomes(job) == ["released"]
    assert [known.state for known in workshop.database.workers.list()] == ["stopped"]
    workshop.worker()
    workshop.until(job, "done")
    assert workshop.numbers(job) == list(range(50))


@pytest.mark.parametrize("how", ["a second signal", "the limit"])
def test_a_deaf_attempt_is_ended_and_the_job_given_back(workshop: Workshop, until: Until, how: str) -> None:
    job = workshop.submit("deaf")
    worker = workshop.worker(drain_seconds=0.3 if how == "the limit" else 1000)
    until("the attempt", lambda: "message" in workshop.kinds(job))
    child = worker.child()
    worker.signal(signal.SIGINT)
    if how == "a second signal":
        until("draining", lambda: "draining" in _states(workshop, worker))
        worker.signal(signal.SIGINT)
    assert worker.wait() == 0
    assert not child.is_running()
    assert workshop.job(job).state == "queued"
    assert workshop.outcomes(job) == ["released"]


def test_cancelling_ends_the_attempt_and_the_worker_goes_on(workshop: Workshop, until: Until) -> None:
    job = workshop.submit("deaf")
    behind = workshop.submit(trials=2)
    worker = workshop.worker()
    until("the attempt", lambda: "message" in workshop.kinds(job))
    child = worker.child()
    workshop.database.queue.cancel(job, "not wanted any more")
    assert workshop.job(job).state == "cancelled"
    workshop.until(behind, "done")
    assert not child.is_running()
    assert workshop.outcomes(job) == ["cancelled"]
    assert workshop.kinds(job)[-1] == "cancelled"


@pytest.mark.parametrize("workshop", ["postgresql"], indirect=True)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_restarts_does_not_end_an_attempt(
    workshop: Workshop, postgresql_server: PostgresqlServer, mode: str
) -> None:
    assert OUTAGE_SECONDS > 60
    job = workshop.submit(trials=100)
    worker = workshop.worker()
    workshop.until_stored(job, 3)
    postgresql_server.stop(mode)
    assert worker.popen.poll() is None
    postgresql_server.start()
    workshop.until(job, "done")
    assert workshop.numbers(job) == list(range(100))
    assert workshop.outcomes(job) == ["done"]
    assert worker.popen.poll() is None


def _more_attempts(workshop: Workshop, job: str) -> Callable[[], bool]:
    """Whether there are more than now."""
    known = workshop.job(job).attempts
    return lambda: workshop.job(job).attempts > known


def _states(workshop: Workshop, worker: Process) -> list[str]:
    return [known.state for known in workshop.database.workers.list() if known.process == worker.popen.pid]
