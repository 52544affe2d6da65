"""How many jobs a second four processes claim from one queue, on PostgreSQL and on SQLite; none may be claimed twice.

Every claim is a transaction of its own, durable when it returns as that database is set up by AutoKV. The processes
share this machine's cores with the database.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from service import postgresql

from autokv.storage import Database, this_host
from autokv.tuning.request import TuningRequest
from common import percentiles, write_result

CLAIMER = """
import json, sys, time
from autokv.storage import Database
database = Database(sys.argv[1])
print(flush=True)
for _ in sys.stdin:
    claimed, began = [], time.time()
    ended = began
    while True:
        claim = database.queue.claim(sys.argv[2], lambda selector: True, 600)
        if claim is not None:
            claimed.append(claim.job.id)
            ended = time.time()
        elif not database.queue.waiting():
            break
    print(json.dumps({"claimed": claimed, "began": began, "ended": ended}), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10, help="on each database, taking turns")
    parser.add_argument("--quick", action="store_true", help="one round after the first; nothing is written")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="autokv-benchmark-"))
        urls = {"postgresql": stack.enter_context(postgresql()), "sqlite": f"sqlite:///{Path(folder) / 'autokv.db'}"}
        queues = {name: stack.enter_context(queue(url, options.processes)) for name, url in urls.items()}
        # The first round opens connections and compiles statements.
        runs = [{name: one.round(options.jobs) for name, one in queues.items()} for _ in range(rounds + 1)][1:]
    result = {name: percentiles([run[name] for run in runs]) for name in urls}
    for name, rates in result.items():
        print(f"{name:12} {rates['p50']:7.0f} claims/s (p5 {rates['p5']:.0f}, p95 {rates['p95']:.0f}, n {rates['n']})")
    if not options.quick:
        shape = {"jobs": options.jobs, "processes": options.processes}
        print(f"written to {write_result('claims', {**shape, 'claims_per_s': result})}")


class Claimers:
    """Processes that wait to be told to empty a queue."""

    def __init__(self, database: Database, children: list[subprocess.Popen[str]]) -> None:
        self.database, self.children = database, children

    def round(self, jobs: int) -> float:
        """Fill the queue, let it be emptied, and return the claims per second.

        Raises:
            RuntimeError: a job was claimed twice, or not at all.
        """
        request = TuningRequest(model="tiny")
        waiting = [self.database.queue.submit(request, submission={}, selector="any")[0].id for _ in range(jobs)]
        for child in self.children:
            tell(child, "go\n")
        seen: list[dict[str, Any]] = [json.loads(answer(child)) for child in self.children]
        if sorted(job for one in seen for job in one["claimed"]) != sorted(waiting):
            raise RuntimeError("a job was claimed twice, or not at all")
        seconds: float = max(one["ended"] for one in seen) - min(one["began"] for one in seen)
        return jobs / seconds


@contextmanager
def queue(url: str, processes: int) -> Iterator[Claimers]:
    """An empty queue, and processes that are ready to claim from it."""
    with ExitStack() as stack:
        database = stack.enter_context(Database(url))
        worker = database.workers.register(
            host=this_host(),
            process=os.getpid(),
            device="cpu",
            labels={},
            profile={"name": "benchmark", "fingerprint": "0" * 16},
            versions={},
            seconds=3600,
        )
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIMER, url, worker],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        for child in children:
            stack.callback(child.kill)
            answer(child)
        yield Claimers(database, children)


def tell(child: subprocess.Popen[str], line: str) -> None:
    if child.stdin is not None:
        child.stdin.write(line)
        child.stdin.flush()


def answer(child: subprocess.Popen[str]) -> str:
    """The next line that a process prints.

    Raises:
        RuntimeError: it has ended.
    """
    line = "" if child.stdout is None else child.stdout.readline()
    if not line:
        raise RuntimeError("a claiming process has failed")
    return line


if __name__ == "__main__":
    main()
