"""``autokv demo`` with a tiny model: a server of its own, a job over HTTP, files, and nothing left running."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from autokv.config import ConfigurationDocument
from autokv.storage import Database

LIMIT_SECONDS = 600
MARK = "DEMONSTRATION_OF"
DEMO = """
import sys
from autokv.cli import demo
from autokv.cli.main import main
demo._offered = lambda: "tiny-llama"
demo.MAX_CONTEXT_TOKENS = 64
sys.argv = ["autokv", "demo", "--trials", "3", "--output", "found"]
main()
"""


def left(mark: str) -> list[psutil.Process]:
    """The processes that a demonstration started, whoever is their parent now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_the_demonstration_goes_on_where_it_was_stopped(
    tiny_model_folder: Callable[..., Path],
    warm_cache: Path,
    not_nice: dict[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    mark = str(tmp_path)
    shutil.copytree(warm_cache, tmp_path / "cache")
    shutil.copytree(tiny_model_folder("llama"), tmp_path / "models" / "tiny-llama")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOKV_")}
    environment |= not_nice | {
        "AUTOKV_CPU_CACHE_BYTES": "65536",
        "AUTOKV_CACHE_DIR": str(tmp_path / "cache"),
        "AUTOKV_MODEL_ROOTS": str(tmp_path / "models"),
        "AUTOKV_HEARTBEAT_SECONDS": "0.25",
        "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TRITON_INTERPRET": "0",
        MARK: mark,
    }

    def end() -> None:
        for process in left(mark):
            process.kill()

    request.addfinalizer(end)

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, "-c", DEMO], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
        )

    stopped = start()
    assert stopped.stdout is not None
    assert any("attempt 1 runs" in line for line in stopped.stdout)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=LIMIT_SECONDS)
    assert stopped.returncode == 130, err
    assert left(mark) == []
    with Database(f"sqlite:///{tmp_path / 'autokv.db'}") as database:
        (job,) = database.jobs.list()
        assert job.state == "queued"

    out, err = start().communicate(timeout=LIMIT_SECONDS)
    assert f"going on with job {job.id}" in out, err
    assert "autokv serve" in out
    assert left(mark) == []
    names = {"recommended.json", "pareto.json", "trials.csv", "front.svg", "report.html", "request.yaml", "front.json"}
    names |= {"server.log"}
    assert {path.name for path in (tmp_path / "found").iterdir()} | {"recommended.json"} == names
    assert json.loads((tmp_path / "found" / "pareto.json").read_text())
    recommended = tmp_path / "found" / "recommended.json"
    with Database(f"sqlite:///{tmp_path / 'autokv.db'}") as database:
        assert database.jobs.find(job.id).trials >= 3
        result = database.results.of(job.id)
    assert result is not None
    digest = ConfigurationDocument.load(recommended).digest if recommended.exists() else None
    assert digest == result.recommended
