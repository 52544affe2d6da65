"""Kernel times: kept across processes, and the newest counts."""

from __future__ import annotations

import subprocess
import sys

from sqlalchemy import func, select

from autokv.evaluation.costs import CostCache, KernelTime, key_of
from autokv.storage import Database
from autokv.storage.tables import KernelTimeRow

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
        with database.reading() as session:
            rows = session.execute(select(KernelTimeRow.key, KernelTimeRow.seconds).order_by(KernelTimeRow.id)).all()
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
        with database.reading() as session:
            assert session.scalar(select(func.count()).select_from(KernelTimeRow)) == 40
