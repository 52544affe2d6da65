"""Kernel times: kept across processes, the newest counts, and a database of the first schema gets their table."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from autokv.evaluation.costs import CostCache, KernelTime, key_of
from autokv.storage import Database
from autokv.tuning.request import TuningRequest

DOCUMENT = {"stage": {"kind": "eviction"}, "tokens": 64}
KEY = key_of(DOCUMENT)


def test_the_repository_is_a_cost_cache(database: Database) -> None:
    cache: CostCache = database.kernel_times
    assert cache.get(KEY) is None
    cache.put(KEY, DOCUMENT, KernelTime(1.5e-7, 2e-9, 5))
    assert cache.get(KEY) == KernelTime(1.5e-7, 2e-9, 5)


def test_the_newest_time_counts_and_none_is_lost(url: str) -> None:
    with Database(url) as database:
        database.kernel_times.put(KEY, DOCUMENT, KernelTime(1.0, 0.1, 5))
        database.kernel_times.put("another", {}, KernelTime(3.0, 0.0, 1))
        database.kernel_times.put(KEY, DOCUMENT, KernelTime(2.0, 0.2, 7))
    with Database(url) as database:
        assert database.kernel_times.get(KEY) == KernelTime(2.0, 0.2, 7)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute("SELECT key, seconds FROM kernel_times ORDER BY id").fetchall()
    assert rows == [(KEY, 1.0), ("another", 3.0), (KEY, 2.0)]


PUT = """
import sys
from autokv.evaluation.costs import KernelTime
from autokv.storage import Database
print("ready", flush=True)
sys.stdin.readline()
with Database(sys.argv[1]) as database:
    for run in range(20):
        database.kernel_times.put(sys.argv[2], {"run": run}, KernelTime(float(run), 0.0, 1))
"""


def test_two_processes_may_store_one_key(url: str) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PUT, url, KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("\n")
    assert [child.returncode for child in children] == [0, 0]
    with Database(url, create=False) as database:
        assert database.kernel_times.get(KEY) == KernelTime(19.0, 0.0, 1)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("SELECT count(*) FROM kernel_times").fetchone() == (40,)


def test_a_database_of_the_first_schema_is_upgraded_and_keeps_what_it_has(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, revision: upgrade(config, "0001"))
        patch.setattr(ScriptDirectory, "get_current_head", lambda self: "0001")
        with Database(url) as database:
            job = "0123456789ab"
            with database.writing() as session:
                session.execute(
                    text(
                        "INSERT INTO jobs (id, state, request, versions, created_at, attempts) "
                        "VALUES (:id, 'queued', :request, '{}', '2026-11-20 10:00:00.000000', 0)"
                    ),
                    {"id": job, "request": TuningRequest(model="tiny").model_dump_json()},
                )
            with database.reading() as session:
                assert "kernel_times" not in inspect(session.connection()).get_table_names()
    with Database(url) as database:
        assert [found.id for found in database.jobs.list()] == [job]
        database.kernel_times.put(KEY, DOCUMENT, KernelTime(1.0, 0.0, 1))
        assert database.kernel_times.get(KEY) == KernelTime(1.0, 0.0, 1)
