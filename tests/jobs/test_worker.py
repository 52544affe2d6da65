"""Workers, their attempts and their leases, with processes that are killed, stopped and deaf."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from autokv.hardware.catalog import sheets
from autokv.jobs.selector import Device, Selector
from autokv.storage.retrying import OUTAGE_SECONDS

Until = Callable[[str, Callable[[], Any]], Any]
# Fixtures of conftest.py, which cannot be imported.
Workplace = Process = Server = Any
on_both = pytest.mark.parametrize("workplace", ["sqlite", "postgresql"], indirect=True)


def test_a_worker_runs_what_waits_the_oldest_first(workplace: Workplace) -> None:
    jobs = [workplace.submit(trials=3) for _ in range(2)]
    worker = workplace.worker()
    for job in jobs:
        workplace.until(job, "done")
        assert workplace.outcomes(job) == ["done"]
        assert workplace.numbers(job) == [0, 1, 2]
        assert workplace.kinds(job)[:2] == ["queued", "started"]
        assert workplace.kinds(job)[-1] == "done"
    first, second = (workplace.database.queue.attempts(job)[0] for job in jobs)
    assert first.ended <= second.started
    (known,) = workplace.database.workers.list()
    assert (known.state, known.device, known.process) == ("ready", "cpu", worker.popen.pid)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert [known.state for known in workplace.database.workers.list()] == ["stopped"]


def test_a_worker_takes_what_fits_it_and_leaves_the_rest(workplace: Workplace) -> None:
    here = Device.of(sheets()["l4"].profile())
    elsewhere = workplace.submit(selector=Selector(Device("0" * 16, ("NVIDIA H100 80GB HBM3",))))
    labelled = workplace.submit(selector=Selector(None, {"zone": "b"}))
    fitting = workplace.submit(selector=Selector(here, {"zone": "a"}), trials=2)
    worker = workplace.worker(labels={"zone": "a", "tier": "x"}, once=True)
    assert worker.wait() == 0
    assert workplace.job(fitting).state == "done"
    assert [workplace.job(job).state for job in (elsewhere, labelled)] == ["queued", "queued"]
    assert workplace.worker(labels={"zone": "a"}, once=True).wait() == 0
    assert [workplace.job(job).attempts for job in (elsewhere, labelled)] == [0, 0]


@on_both
def test_random_kills_lose_nothing_and_store_nothing_twice(workplace: Workplace, until: Until) -> None:
    kills, chance = 6, random.Random(5)
    job = workplace.submit(trials=300)
    worker = workplace.worker()
    for _ in range(kills):
        before = workplace.job(job).trials
        workplace.until_stored(job, before + chance.randint(1, 3))
        child = worker.child()
        if chance.random() < 0.5:
            child.kill()
            attempts = workplace.job(job).attempts
            until("the next attempt", lambda known=attempts: workplace.job(job).attempts > known)
        else:
            worker.kill()
            psutil.wait_procs([child], timeout=60)
            assert not child.is_running(), "the process of an attempt outlived its worker"
            worker = workplace.worker()
    workplace.until(job, "done")
    assert workplace.numbers(job) == list(range(300))
    outcomes = workplace.outcomes(job)
    assert outcomes[-1] == "done"
    assert set(outcomes[:-1]) <= {"crashed", "lost"}
    assert len(outcomes) == kills + 1
    told = [event.data["number"] for event in workplace.database.events.of(job, limit=1000) if event.kind == "trial"]
    assert told == list(range(300))


@on_both
def test_a_worker_that_sleeps_past_its_lease_changes_nothing_when_it_wakes(workplace: Workplace, until: Until) -> None:
    job = workplace.submit(trials=100)
    asleep = workplace.worker(lease=1.5)
    workplace.until_stored(job, 2)
    child = asleep.child()

    def sleeping() -> bool:
        """In the middle of a write, its lock would hold up everybody until it wakes."""
        child.suspend()
        asleep.signal(signal.SIGSTOP)
        if not workplace.is_locked():
            return True
        asleep.signal(signal.SIGCONT)
        child.resume()
        return False

    until("both to sleep", sleeping)
    workplace.worker(lease=20)
    workplace.until(job, "done")
    events, trials = workplace.database.events.of(job, limit=1000), workplace.database.trials.of(job)
    assert workplace.outcomes(job) == ["lost", "done"]
    child.resume()
    asleep.signal(signal.SIGCONT)
    psutil.wait_procs([child], timeout=60)
    assert not child.is_running()
    until("the worker to be heard of again", lambda: "ready" in _states(workplace, asleep))
    assert workplace.database.events.of(job, limit=1000) == events
    assert workplace.database.trials.of(job) == trials
    assert workplace.outcomes(job) == ["lost", "done"]
    assert [record.source for record in trials] == sorted(record.source for record in trials)
    later = workplace.submit(trials=2)
    workplace.until(later, "done")


def test_a_job_that_crashes_fails_after_three_attempts_with_its_reason(workplace: Workplace) -> None:
    job = workplace.submit("crashing")
    behind = workplace.submit(trials=2)
    workplace.worker()
    failed = workplace.until(job, "failed")
    assert workplace.outcomes(job) == ["crashed"] * 3
    assert "SIGABRT" in failed.reason
    assert "about to fall" in failed.reason
    assert workplace.kinds(job) == ["queued", *["started", "crashed"] * 3, "failed"]
    workplace.until(behind, "done")


@on_both
def test_a_worker_that_is_asked_to_stop_finishes_its_batch_and_gives_the_job_back(workplace: Workplace) -> None:
    job = workplace.submit(trials=50, batch_size=5)
    first = workplace.worker()
    workplace.until_stored(job, 6)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    given_back = workplace.job(job)
    assert given_back.state == "queued"
    assert given_back.crashes == 0
    assert given_back.trials % 5 == 0
    assert workplace.outcomes(job) == ["released"]
    assert [known.state for known in workplace.database.workers.list()] == ["stopped"]
    workplace.worker()
    workplace.until(job, "done")
    assert workplace.numbers(job) == list(range(50))


@pytest.mark.parametrize("how", ["a second signal", "the limit"])
def test_a_deaf_attempt_is_ended_and_the_job_given_back(workplace: Workplace, until: Until, how: str) -> None:
    job = workplace.submit("deaf")
    worker = workplace.worker(drain_seconds=0.3 if how == "the limit" else 1000)
    until("the attempt", lambda: "message" in workplace.kinds(job))
    child = worker.child()
    worker.signal(signal.SIGINT)
    if how == "a second signal":
        until("draining", lambda: "draining" in _states(workplace, worker))
        worker.signal(signal.SIGINT)
    assert worker.wait() == 0
    assert not child.is_running()
    assert workplace.job(job).state == "queued"
    assert workplace.outcomes(job) == ["released"]


def test_cancelling_ends_the_attempt_and_the_worker_goes_on(workplace: Workplace, until: Until) -> None:
    job = workplace.submit("deaf")
    behind = workplace.submit(trials=2)
    worker = workplace.worker()
    until("the attempt", lambda: "message" in workplace.kinds(job))
    child = worker.child()
    workplace.database.queue.cancel(job, "not wanted any more")
    assert workplace.job(job).state == "cancelled"
    workplace.until(behind, "done")
    assert not child.is_running()
    assert workplace.outcomes(job) == ["cancelled"]
    assert workplace.kinds(job)[-1] == "cancelled"


@pytest.mark.parametrize("workplace", ["postgresql"], indirect=True)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_restarts_does_not_end_an_attempt(
    workplace: Workplace, postgresql_server: Server, mode: str
) -> None:
    assert OUTAGE_SECONDS > 60
    job = workplace.submit(trials=100)
    worker = workplace.worker()
    workplace.until_stored(job, 3)
    postgresql_server.stop(mode)
    assert worker.popen.poll() is None
    postgresql_server.start()
    workplace.until(job, "done")
    assert workplace.numbers(job) == list(range(100))
    assert workplace.outcomes(job) == ["done"]
    assert worker.popen.poll() is None


def _states(workplace: Workplace, worker: Process) -> list[str]:
    return [known.state for known in workplace.database.workers.list() if known.process == worker.popen.pid]
