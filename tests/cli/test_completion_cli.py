"""What a shell completes: the names that an option takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUTOKV = str(Path(sys.executable).parent / "autokv")


def completed(line: str) -> list[str]:
    """What the completion that ``autokv --install-completion`` sets up for bash is told for ``line``."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_AUTOKV_COMPLETE": "complete_bash"}
    result = subprocess.run([AUTOKV], env={**os.environ, **words}, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("autokv tune --space quanti", ["quantization-only"]),
        ("autokv tune --scenario multi", ["multi-turn"]),
        ("autokv tune --hardware h100-s", ["h100-sxm"]),
        ("autokv tune --objective kv_", ["kv_bytes_per_token"]),
        ("autokv remote submit --max kl_", ["kl_divergence="]),
        ("autokv tune --slo t", ["ttft_ms=", "tpot_ms="]),
        ("autokv remote al", ["alias"]),
        ("autokv tune --valid", ["--validation-samples"]),
    ],
)
def test_names_are_completed(line: str, names: list[str]) -> None:
    assert completed(line) == names


def test_a_shell_can_be_set_up() -> None:
    # Named, since a process that no shell started cannot tell which one.
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [AUTOKV, "--show-completion", "bash"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "_AUTOKV_COMPLETE=complete_bash" in shown
