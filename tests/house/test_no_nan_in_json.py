"""No JSON that a person or another program reads has NaN or infinities in it, which JSON lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autokv.cli.main import app
from autokv.cli.tables import print_json
from autokv.report.results import trials_csv
from autokv.tuning.trial import TrialRecord


def _strict(text: str) -> Any:  # noqa: ANN401 - any JSON
    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "bounds": [float("inf"), 1.0]})
    assert _strict(capsys.readouterr().out) == {"loss": None, "bounds": [None, 1.0]}


def test_a_models_facts(tiny_model_folder: Callable[..., Path]) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "attention_factor": float("inf")}
    folder = tiny_model_folder("llama", rope_parameters=rope)
    result = CliRunner().invoke(app, ["models", "inspect", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert _strict(result.stdout)["rope"]["attention_factor"] is None


def test_lists_in_tables() -> None:
    record = TrialRecord(0, "failed", {"ranks": [1.0, float("nan")]}, "sampler", None, None, "broken", 1.0)
    table = trials_csv([record])
    assert "null" in table
    assert "NaN" not in table
