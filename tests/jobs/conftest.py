"""Workers as processes, on a database of each kind, and jobs for them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from autokv.jobs.selector import Selector
from autokv.storage import Database, Job
from autokv.tuning.request import TuningRequest

STAND_IN = Path(__file__).with_name("stand_in.py")
PATIENCE_SECONDS = 600.0
Value = TypeVar("Value")


def wait_for(what: str, condition: Callable[[], Value | None]) -> Value:
    """What ``condition`` gives as soon as it gives anything; takes long only where something hangs."""
    end, pause = time.monotonic() + PATIENCE_SECONDS, 0.02
    while time.monotonic() < end:
        if (value := condition()) is not None and value is not False:
            return value
        # Who looks all the time takes the processor from those that are waited for.
        time.sleep(pause)
        pause = min(1.2 * pause, 0.3)
    pytest.fail(f"waited {PATIENCE_SECONDS:.0f} s for {what}")


class Process:
    """A worker that a test started."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._seen: set[psutil.Process] = set()

    def child(self) -> psutil.Process:
        """The process of the attempt that runs now."""
        return wait_for(f"an attempt\n{self.output()}", self._child)

    def _child(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for found in psutil.Process(self.popen.pid).children(recursive=True):
                if "attempt" in " ".join(found.cmdline()) and found.status() != psutil.STATUS_ZOMBIE:
                    self._seen.add(found)
                    return found
        return None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def wait(self) -> int:
        """Its exit code."""
        try:
            return self.popen.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker does not end\n{self.output()}")

    def close(self) -> list[psutil.Process]:
        """End it; what it leaves behind."""
        if self.popen.poll() is None:
            self._child()
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
            self.popen.wait()
        return psutil.wait_procs(self._seen, timeout=30)[1]


class Workshop:
    """A database, its jobs, and the workers on it."""

    def __init__(self, url: str, folder: Path, environment: dict[str, str]) -> None:
        self.url, self.folder, self.environment = url, folder, environment
        self.database = Database(url)
        self.workers: list[Process] = []

    def submit(self, model: str = "steady", selector: Selector | None = None, **fields: object) -> str:
        """Submit a job; its id."""
        asked = {"model": model, "batch_size": 2, "trials": 10, "tasks": False, **fields}
        request = TuningRequest.parse({name: value for name, value in asked.items() if name != "space"})
        job, _ = self.database.queue.submit(request, submission=asked, selector=(selector or Selector()).to_json())
        return job.id

    def worker(self, *, lease: float = 20.0, beat: float = 0.2, **options: object) -> Process:
        """Start a worker whose attempts are stand-ins."""
        command = [sys.executable, "-P", str(STAND_IN), "worker", self.url, json.dumps(options)]
        return self.start(command, lease=lease, beat=beat)

    def start(self, command: Sequence[str], *, lease: float = 20.0, beat: float = 0.2) -> Process:
        """Start any worker."""
        beats = {"AUTOKV_LEASE_SECONDS": str(lease), "AUTOKV_HEARTBEAT_SECONDS": str(beat)}
        log = self.folder / f"worker-{len(self.workers)}.log"
        process = Process(command, log, {**self.environment, **beats})
        self.workers.append(process)
        return process

    def job(self, job_id: str) -> Job:
        return self.database.jobs.find(job_id)

    def outcomes(self, job_id: str) -> list[str | None]:
        """How the attempts at a job ended, in order."""
        return [attempt.outcome for attempt in self.database.queue.look(job_id).attempts]

    def numbers(self, job_id: str) -> list[int]:
        """Numbers of the stored trials, in order."""
        return [record.number for record in self.database.trials.of(job_id)]

    def kinds(self, job_id: str) -> list[str]:
        """Kinds of the events of a job, in order; their numbers must have no gap."""
        found = self.database.events.of(job_id)
        assert [event.number for event in found] == list(range(1, len(found) + 1))
        return [event.kind for event in found]

    def until(self, job_id: str, *states: str) -> Job:
        """The job, as soon as it is in one of these states."""

        def there() -> Job | None:
            job = self.job(job_id)
            return job if job.state in states else None

        return wait_for(f"job {job_id} to be {' or '.join(states)}\n{self.logs()}", there)

    def until_stored(self, job_id: str, trials: int) -> Job:
        """The job, as soon as it has so many trials."""

        def there() -> Job | None:
            job = self.job(job_id)
            return job if job.trials >= trials else None

        return wait_for(f"{trials} trials of job {job_id}\n{self.logs()}", there)

    def is_locked(self) -> bool:
        """Whether somebody is in the middle of a write to a job."""
        if self.url.startswith("sqlite"):
            connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=0.2, isolation_level=None)
            with contextlib.closing(connection):
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    return True
                return False
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as other:
            try:
                other.execute("SELECT id FROM jobs FOR UPDATE NOWAIT")
            except psycopg.errors.LockNotAvailable:
                return True
            return False

    def logs(self) -> str:
        return "\n".join(f"--- {worker.log.name}\n{worker.output()[-2000:]}" for worker in self.workers)

    def close(self) -> None:
        orphans = [orphan for worker in self.workers for orphan in worker.close()]
        self.database.close()
        for orphan in orphans:
            orphan.kill()
        assert orphans == [], "a process outlived its worker"


@pytest.fixture
def workshop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workshop]:
    """On SQLite, or on what the test is parametrised with; at its end no process may be left."""
    url = str(request.getfixturevalue(f"ready_{getattr(request, 'param', 'sqlite')}_url"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOKV_")}
    place = Workshop(url, tmp_path, {**environment, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"})
    try:
        yield place
    finally:
        print(place.logs())
        place.close()


@pytest.fixture
def until() -> Callable[[str, Callable[[], Value | None]], Value]:
    """:func:`wait_for`."""
    return wait_for
