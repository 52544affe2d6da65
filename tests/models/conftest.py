"""Checkpoints that go wrong in one way each, made from one good one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _plain_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("AUTOKV_MODEL_ROOTS", raising=False)


@pytest.fixture
def folder(tiny_model_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A good checkpoint that the test may break."""
    return Path(shutil.copytree(tiny_model_folder("llama"), tmp_path / "tiny-llama"))


@pytest.fixture
def edit() -> Callable[..., None]:
    """``edit(file, key=value)`` changes keys of a JSON file; ``None`` removes one."""

    def change(file: Path, **values: object) -> None:
        document = json.loads(file.read_text())
        document.update(values)
        file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return change
