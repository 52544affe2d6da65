"""``autokv`` as a user calls it, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def autokv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``autokv ARGS`` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOKV_DATABASE_URL", raising=False)
    monkeypatch.setattr("autokv.hardware.measuring.SECONDS_PER_RATE", 0.001)
    monkeypatch.setattr("autokv.evaluation.costs.timing.AGAIN_SECONDS", 0.001)

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()  # what making a model left
        monkeypatch.setattr(sys, "argv", ["autokv", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capfd.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture(scope="module")
def model(tiny_model_folder: Callable[..., Path]) -> Path:
    """A tiny llama."""
    return tiny_model_folder("llama")
