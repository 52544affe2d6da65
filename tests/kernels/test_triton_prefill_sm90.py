"""The Triton kernels of the prefill as an H100 would get them, compiled without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SHARED_MEMORY = 227 * 1024
"""Bytes that one block of an H100 may have."""


def test_nothing_spills_and_everything_fits(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "kernel_code.py"
    settings = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(script.parent)}
    command = [sys.executable, str(script), "prefill", "--lines", "--candidates", "1"]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["kernel"] for one in found} == {
        "quantize_by_channel",
        "quantize_by_token",
        "largest_magnitude",
        "quantize_to_float8",
        "gather_tokens",
        "row_sums",
        "column_sums",
    }
    assert [one for one in found if one["spilled"] or one["shared"] > SHARED_MEMORY] == []
