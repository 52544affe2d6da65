"""``autokv serve`` as a process: it starts, says where, and takes everything with it when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

LIMIT_SECONDS = 600
AUTOKV = Path(sys.executable).with_name("autokv")
SUPERVISING = """
import sys, threading
from autokv.cli.processes import Supervisor
supervisor = Supervisor([["serve", "--workers", "0", "--port", "0", "--ready-file", sys.argv[1]]], {})
supervisor.start()
threading.Event().wait()
"""
Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., subprocess.Popen[str]]


def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; only what hangs takes long."""
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process in an empty folder; what is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOKV_")}

    def run(*command: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**environment, "PYTHONSAFEPATH": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_says_where_it_serves_and_ends_on_sigterm(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    process = start(AUTOKV, "serve", "--workers", "0", "--port", "0", "--ready-file", ready)
    until(ready.is_file)
    url = json.loads(ready.read_text())["url"]
    assert httpx2.get(f"{url}/readyz").status_code == 200
    assert (tmp_path / "autokv.db").is_file()
    process.send_signal(signal.SIGTERM)
    out, log = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    assert out == f"serving {url} with 0 workers; {url}/docs describes it\n"
    assert all(json.loads(line)["message"] for line in log.splitlines())
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def test_an_open_stream_does_not_hold_it(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    process = start(AUTOKV, "serve", "--workers", "0", "--port", "0", "--ready-file", ready)
    until(ready.is_file)
    url = json.loads(ready.read_text())["url"]
    job = httpx2.post(f"{url}/v1/jobs", json={"model": "org/tiny"}).json()["id"]
    with httpx2.stream("GET", f"{url}/v1/jobs/{job}/events", timeout=LIMIT_SECONDS) as stream:
        lines = stream.iter_lines()
        assert any(line == "event: queued" for line in lines)
        process.send_signal(signal.SIGINT)
        list(lines)
    assert process.wait(LIMIT_SECONDS) == 0


def test_a_child_that_dies_is_started_again_and_none_outlives_its_parent(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    parent = start(sys.executable, "-c", SUPERVISING, str(ready))
    until(ready.is_file)
    (child,) = psutil.Process(parent.pid).children()
    ready.unlink()
    child.kill()
    until(ready.is_file)
    (other,) = psutil.Process(parent.pid).children()
    assert other.pid != child.pid
    assert httpx2.get(f"{json.loads(ready.read_text())['url']}/healthz").status_code == 200
    parent.kill()
    parent.wait()
    psutil.wait_procs([other], timeout=LIMIT_SECONDS)
    assert not other.is_running()


def test_what_it_cannot_serve_is_one_line(autokv: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = autokv("serve", "--port", port, "--workers", 0)
    remedy = "name another; port 0 is a free one"
    assert (code, err) == (
        2,
        f"error: --port: port {port} of 127.0.0.1 cannot be had (address already in use); {remedy}\n",
    )
    for host in ("203.0.113.7", "nowhere.invalid", "::ffff:203.0.113.7"):
        code, _, err = autokv("serve", "--host", host, "--port", 0, "--workers", 0)
        assert (code, err.count("\n")) == (2, 1)
        assert err.endswith(f"{remedy}\n")
    code, _, err = autokv("serve", "--labels", "zone")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: --labels: ")
    (tmp_path / "text.db").write_text("not a database, " * 100)
    code, _, err = autokv("serve", "--database", f"sqlite:///{tmp_path / 'text.db'}")
    assert (code, err.count("\n")) == (2, 1)
