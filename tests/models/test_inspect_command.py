"""``autokv models inspect``: a table that fits a terminal, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autokv.cli.models import app
from autokv.errors import ModelError
from autokv.models import inspect


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["inspect", *arguments], env={"COLUMNS": "80"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_json_is_the_facts(folder: Path) -> None:
    assert json.loads(_run(str(folder), "--json")) == json.loads(json.dumps(inspect(str(folder)).to_dict()))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "phi3"])
def test_the_table_fits_80_columns_and_says_what_counts(tiny_model_folder: Callable[..., Path], family: str) -> None:
    folder = tiny_model_folder(family)
    facts = inspect(str(folder))
    table = _run(str(folder))
    assert max(map(len, table.splitlines())) <= 80
    for value in (facts.architecture, f"{facts.parameters:,}", f"{facts.kv_bytes_per_token:,} bytes per token"):
        assert value in table
    assert ("sliding attention" in table) == ("sliding" in facts.layer_kinds)


def test_layers_are_listed_by_kind(tiny_model_folder: Callable[..., Path]) -> None:
    table = _run(str(tiny_model_folder("gemma3_text")))
    assert "full attention" in table
    assert "2: 1-2" in table
    assert "1 of 24 tokens: 0" in table


def test_an_unknown_model_is_an_error_of_the_model() -> None:
    with pytest.raises(ModelError, match="no such file"):
        _run("/no/such/model")
