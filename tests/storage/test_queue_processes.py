"""The queue between processes: no job twice, no job lost, and nobody's own clock matters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import update

from autokv.storage import Database
from autokv.storage.repository import now
from autokv.storage.tables import JobRow
from autokv.tuning.request import TuningRequest

PROCESSES = 4
JOBS = 400

CLAIM = """
import sys
from autokv.storage import Database
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while database.queue.waiting():
    claim = database.queue.claim(sys.argv[2], lambda selector: True, 600)
    if claim is not None:
        print(claim.job.id, claim.lease.owner, flush=True)
"""

SUBMIT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from autokv.storage import Database
from autokv.tuning.request import TuningRequest
database = Database(sys.argv[1])
request = TuningRequest(model="tiny")
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(25) as threads:
    sent = [threads.submit(database.queue.submit, request, submission={"a": 1}, selector="any", key="one")
            for _ in range(25)]
    for one in sent:
        job, created = one.result()
        print(job.id, created, flush=True)
"""

HOLD = """
import sys
from autokv.errors import LeaseLostError
from autokv.storage import Database
from autokv.tuning.trial import TrialRecord
database = Database(sys.argv[1])
lease = database.queue.claim(sys.argv[2], lambda selector: True, float(sys.argv[3])).lease
print(lease.job_id, flush=True)
sys.stdin.readline()
print(database.queue.heartbeat(lease, 600), flush=True)
try:
    database.trials.add(lease.job_id, TrialRecord(0, "failed", {}, "tpe", None, None, "x", 0.1), lease=lease)
except LeaseLostError as error:
    print(error, flush=True)
"""

SHIFTED = """
import datetime, sys, time
from autokv.storage import Database
from autokv.tuning.trial import TrialRecord, TuningResult

seconds = float(sys.argv[4])
real = time.time
time.time = lambda: real() + seconds

class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(time.time(), tz)

for name, module in list(sys.modules.items()):
    if name.startswith("autokv") and getattr(module, "datetime", None) is datetime.datetime:
        module.datetime = Shifted

database = Database(sys.argv[1])
print(database.queue.reap(), flush=True)
lease = database.queue.claim(sys.argv[2], lambda selector: True, float(sys.argv[3])).lease
database.workers.beat(sys.argv[2], 600)
print(lease.job_id, database.queue.heartbeat(lease, float(sys.argv[3])), flush=True)
sys.stdin.readline()
record = TrialRecord(0, "failed", {}, "tpe", None, None, "x", 0.1)
database.trials.add(lease.job_id, record, lease=lease)
database.results.save(lease.job_id, TuningResult((), [record], [], None), lease=lease)
print(database.queue.reap(), database.queue.expire(0.02), flush=True)
"""


@contextmanager
def program(text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", text, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def together(text: str, *arguments: object) -> list[list[str]]:
    """What several of these programs print that are let go at once, as words; none of them may fail."""
    with ExitStack() as stack:
        children = [stack.enter_context(program(text, *arguments)) for _ in range(PROCESSES)]
        assert [line(child) for child in children] == ["ready"] * PROCESSES
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        printed = [child.communicate() for child in children]
        assert [(child.returncode, errors) for child, (_, errors) in zip(children, printed, strict=True)] == [
            (0, "")
        ] * PROCESSES
    return [one.split() for text, _ in printed for one in text.splitlines()]


def submit(database: Database) -> str:
    return database.queue.submit(TuningRequest(model="tiny"), submission={}, selector="any")[0].id


def test_four_processes_claim_every_job_once(url: str, database: Database, worker: str) -> None:
    jobs = {submit(database) for _ in range(JOBS)}
    claimed = together(CLAIM, url, worker)
    assert len(claimed) == JOBS
    assert {job for job, _ in claimed} == jobs
    assert len({owner for _, owner in claimed}) == JOBS
    assert database.queue.waiting() == {}
    assert database.events.latest(jobs) == dict.fromkeys(jobs, (2, "running"))


def test_a_hundred_submissions_with_one_key_are_one_job(url: str, database: Database) -> None:
    answers = together(SUBMIT, url)
    assert len(answers) == 100
    assert len({job for job, _ in answers}) == 1
    assert [created for _, created in answers].count("True") == 1
    page, _ = database.jobs.page()
    assert [job.id for job in page] == [answers[0][0]]
    assert [event.kind for event in database.events.of(page[0].id)] == ["queued"]


def test_a_dead_owner_on_this_host_is_noticed_at_once(url: str, database: Database, worker: str) -> None:
    job = submit(database)
    with program(HOLD, url, worker, 600) as child:
        assert line(child) == job
        assert database.queue.reap() == ()
        child.kill()
        # Not reaped here, so that it stays a zombie: that runs nothing either.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert database.queue.reap() == (job,)
    assert database.queue.look(job).attempts[0].reason == "the process of its worker is gone"
    assert database.jobs.find(job).state == "queued"


def test_a_dead_owner_elsewhere_is_noticed_when_its_lease_ends(database: Database, worker: str) -> None:
    job = submit(database)
    assert database.queue.claim(worker, lambda selector: True, 0.5)
    with database.writing() as session:
        session.execute(update(JobRow).values(owner_host="elsewhere", owner_process=2**22))
    until_reaped(database, job)
    assert database.queue.look(job).attempts[0].reason == "its worker was not heard of any more"


def test_a_stopped_worker_that_wakes_up_changes_nothing(url: str, database: Database, worker: str) -> None:
    job = submit(database)
    with program(HOLD, url, worker, 0.2) as child:
        assert line(child) == job
        child.send_signal(signal.SIGSTOP)
        until_reaped(database, job)
        claim = database.queue.claim(worker, lambda selector: True, 600)
        assert claim is not None
        assert claim.lease.attempt == 2
        before = database.events.of(job), database.jobs.find(job).last_event
        child.send_signal(signal.SIGCONT)
        printed, errors = child.communicate("\n")
        assert errors == ""
        assert printed.splitlines()[0] == "False"
        assert "another process has taken this job over" in printed
        assert (database.events.of(job), database.jobs.find(job).last_event) == before
        assert database.trials.of(job) == []
        assert database.queue.heartbeat(claim.lease, 600)


def until_reaped(database: Database, job: str) -> None:
    while (lost := database.queue.reap()) != (job,):
        assert lost == ()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_worker_whose_clock_is_an_hour_off_disturbs_nothing(
    url: str, database: Database, worker: str, hours: int
) -> None:
    mine, theirs = submit(database), submit(database)
    claim = database.queue.claim(worker, lambda selector: True, 600)
    assert claim is not None
    assert claim.job.id == mine
    with database.reading() as session:
        begun = now(session)
    with program(SHIFTED, url, worker, 600, hours * 3600) as child:
        assert line(child) == "()"
        assert line(child) == f"{theirs} True"
        assert database.queue.reap() == ()
        assert database.workers.get(worker).state == "ready"
        printed, errors = child.communicate("\n")
        assert (printed.strip(), errors) == ("() ()", "")
    with database.reading() as session:
        ended = now(session)
    found = database.jobs.find(theirs)
    assert (found.state, found.trials) == ("done", 1)
    times = [event.time for event in database.events.of(theirs)]
    times += [time for time in (found.started, found.finished, database.workers.get(worker).seen) if time is not None]
    # Only the first event was there before.
    assert [begun <= time <= ended for time in times[1:]] == [True] * 6
    assert database.queue.heartbeat(claim.lease, 600)
    assert database.jobs.find(mine).state == "running"
    assert ended - begun < timedelta(minutes=30)
