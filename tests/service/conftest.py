"""The service as it is run: real processes on real databases, which a test may kill."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil
import pytest

from autokv.storage import Database

MARK = "TEST_SERVICE_RUN"
"""Environment variable that every process of one service inherits, however deep it lies."""
AUTOKV = str(Path(sys.executable).parent / "autokv")
STAND_IN = Path(__file__).parents[1] / "jobs" / "stand_in.py"
PATIENCE_SECONDS = 600.0
Value = TypeVar("Value")


def wait_for(what: str, condition: Callable[[], Value | None]) -> Value:
    """What ``condition`` gives as soon as it gives anything; only a service that hangs takes long."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if (value := condition()) is not None and value is not False:
            return value
        time.sleep(0.2)
    pytest.fail(f"waited {PATIENCE_SECONDS:.0f} s for {what}")


class Service:
    """``autokv serve`` and its workers on one database, each a process of its own."""

    def __init__(self, folder: Path, database_url: str, environment: dict[str, str]) -> None:
        self.database_url = database_url
        self.folder = folder
        self._mark = secrets.token_hex(8)
        self._environment = {**environment, MARK: self._mark}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.Client(base_url=self.url, timeout=60)

    def serve(self, *, workers: int = 0) -> None:
        """Start the server, and return when it is ready."""
        device = ["--device", "cpu"] if workers else []
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(workers), *device]
        process = self._start("serve", [AUTOKV, "serve", "--database", self.database_url, *options])
        wait_for("the server", lambda: self._is_ready(process))

    def worker(self) -> None:
        """Start a worker in whose attempts a formula stands in for the model; it is not waited for."""
        self._start("worker", [sys.executable, "-P", str(STAND_IN), "worker", self.database_url, "{}"])

    def keep_worker(self) -> None:
        """Start the worker again if it has ended, as whoever looks after it does: it may have found no database."""
        if self._processes["worker"].poll() is not None:
            self.worker()

    def kill(self, name: str = "serve") -> None:
        """End a process that the test started as nothing can prevent, and collect it."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def terminate(self, name: str = "serve") -> int:
        """Ask a process that the test started to end; its exit code."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(PATIENCE_SECONDS)

    def living(self, word: str | None = None) -> list[psutil.Process]:
        """The processes of this service, whoever is their parent now, or those whose command has the word ``word``."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE
                if mine and (word is None or word in process.cmdline()):
                    found.append(process)
        return found

    def kill_child(self) -> bool:
        """Kill the process of a running attempt; whether there was one."""
        attempts = self.living("autokv.jobs.attempt")
        for process in attempts:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return bool(attempts)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The database, past the server."""
        with Database(self.database_url, create=False) as database:
            yield database

    def submission(self, **changes: object) -> dict[str, Any]:
        """A job of a few seconds, for the one model that the service offers."""
        (model,) = {item["name"] for item in self.http.get("/v1/models").json()["items"] if "tiny" in item["name"]}
        fields = {
            "model": model,
            "trials": 8,
            "batch_size": 2,
            "samples": 2,
            "validation_samples": 2,
            "context_tokens": 96,
            "continuation_tokens": 8,
            "sampler": "random",
            "tasks": False,
        }
        return {**fields, **changes}

    def submit(self, **changes: object) -> str:
        """Submit :meth:`submission`; the id of the job."""
        answer = self.http.post("/v1/jobs", json=self.submission(**changes))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job, as soon as it has ended."""

        def finished() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in {"done", "failed", "cancelled"} else None

        return wait_for(f"the end of job {job_id}", finished)

    def close(self) -> None:
        """End everything: politely, then not."""
        self.http.close()
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        for left in self.living():
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        for process in self._processes.values():
            process.wait()

    def logs(self) -> str:
        """The last lines that each process wrote, without the requests that were answered well."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            telling = [line for line in lines if '"status": 20' not in line]
            parts.append("\n".join([f"--- {path.name}", *telling[-60:]]))
        return "\n".join(parts)

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes[name] = process
        return process

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}\n{self.logs()}")
        with contextlib.suppress(httpx2.TransportError):
            return self.http.get("/readyz").status_code == 200
        return False


@pytest.fixture(scope="session")
def environment(
    tiny_model_folder: Callable[..., Path],
    warm_cache: Path,
    not_nice: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What every process of a service has in its environment: one model to offer, and short beats."""
    cache = tmp_path_factory.mktemp("service") / "cache"
    shutil.copytree(warm_cache, cache)
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_model_folder("llama"), models / "tiny-llama")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUTOKV_")}
    return {
        **inherited,
        **not_nice,
        "AUTOKV_CPU_CACHE_BYTES": "65536",
        "AUTOKV_CACHE_DIR": str(cache),
        "AUTOKV_MODEL_ROOTS": str(models),
        "AUTOKV_HEARTBEAT_SECONDS": "0.25",
        "AUTOKV_LEASE_SECONDS": "20",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONSAFEPATH": "1",
        "TRITON_INTERPRET": "0",
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path, environment: dict[str, str]) -> Iterator[Service]:
    """A service of which nothing runs yet; at the end of the test nothing of it is left."""
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_url"))
    else:
        url = f"sqlite:///{tmp_path / 'autokv.db'}"
    running = Service(tmp_path, url, environment)
    try:
        yield running
    finally:
        running.close()
        print(running.logs())


@pytest.fixture
def until() -> Callable[[str, Callable[[], Value | None]], Value]:
    """:func:`wait_for`."""
    return wait_for
