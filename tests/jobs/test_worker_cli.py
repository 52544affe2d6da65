"""``autokv worker`` as it is called wrongly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUTOKV = str(Path(sys.executable).parent / "autokv")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--labels", "zone"], "--labels"),
        (["--labels", "zone=a b"], "--labels"),
        (["--name", "no spaces here"], "--name"),
        (["--gpus", "2"], "--gpus"),
        (["--executor", "dask"], "--executor"),
        (["--drain-seconds", "-1"], "--drain-seconds"),
        (["--device", "cuda:99"], "device"),
        (["--database", "postgresql://nobody:secret@127.0.0.1:1/none"], "127.0.0.1"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(options: list[str], field: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "AUTOKV_DATABASE_URL": f"sqlite:///{tmp_path / 'autokv.db'}"}
    done = subprocess.run([AUTOKV, "worker", *options], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert field in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "secret" not in done.stderr
