"""Workers: who is there, on what device, and since when they were not heard of."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, update

from autokv.errors import NotFoundError
from autokv.storage import Database, this_host
from autokv.storage.service_tables import HardwareProfileRow, WorkerRow

PROFILE = {"name": "a device", "fingerprint": "0123456789abcdef", "memory_bytes": 1 << 34}


def register(database: Database, *, process: int = 1, host: str = "elsewhere", **profile: object) -> str:
    return database.workers.register(
        host=host,
        process=process,
        device="cuda:0",
        labels={"zone": "a", "tier": "b"},
        profile={**PROFILE, **profile},
        versions={"autokv": "1"},
        seconds=600,
    )


def alter(database: Database, **values: object) -> None:
    with database.writing() as session:
        session.execute(update(WorkerRow).values(**values))


def test_a_worker_comes_back(database: Database) -> None:
    found = database.workers.get(register(database))
    assert (found.host, found.process, found.device) == ("elsewhere", 1, "cuda:0")
    assert (found.labels, found.versions) == ({"zone": "a", "tier": "b"}, {"autokv": "1"})
    assert (found.hardware_name, found.fingerprint) == ("a device", PROFILE["fingerprint"])
    assert (found.state, found.job) == ("ready", None)
    assert found.started == found.seen
    with pytest.raises(NotFoundError, match="there is no such worker"):
        database.workers.get("ffffffffffff")


def test_an_equal_profile_is_stored_once(database: Database) -> None:
    first, same, other = (register(database, memory_bytes=size) for size in (1, 1, 2))
    profiles = [database.workers.get(worker).hardware for worker in (first, same, other)]
    assert profiles[0] == profiles[1] != profiles[2]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(HardwareProfileRow)) == 2


def test_states(database: Database) -> None:
    worker = register(database)
    database.workers.state(worker, "draining")
    assert [one.state for one in database.workers.list(alive_only=True)] == ["draining"]
    alter(database, until=datetime(2020, 1, 1, tzinfo=UTC))
    assert database.workers.get(worker).state == "gone"
    assert database.workers.list(alive_only=True) == ()
    database.workers.beat(worker, 600)
    assert database.workers.get(worker).state == "draining"
    database.workers.state(worker, "stopped")
    assert [one.state for one in database.workers.list()] == ["stopped"]
    assert database.workers.list(alive_only=True) == ()
    alter(database, until=datetime(2020, 1, 1, tzinfo=UTC))
    assert database.workers.get(worker).state == "stopped"


def test_a_dead_process_of_this_host_is_gone_when_anybody_reaps(database: Database) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    dead = register(database, process=child.pid, host=this_host())
    far = register(database, process=child.pid)
    assert [one.state for one in database.workers.list()] == ["ready", "ready"]
    assert database.queue.reap() == ()
    assert database.workers.get(dead).state == "gone"
    assert database.workers.get(far).state == "ready"
