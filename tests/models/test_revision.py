"""The revision of a model: the hub's commit, else a digest that follows the weights and nothing else."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autokv.errors import ModelError
from autokv.models.revision import revision_of
from autokv.models.source import locate
from autokv.settings import Settings


def test_the_digest_follows_the_weights(tiny_model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_model_folder("llama")
    (weights,) = folder.glob("*.safetensors")
    found = revision_of(str(folder))
    assert found == f"sha256:{hashlib.sha256(weights.read_bytes()).hexdigest()}"
    copy = Path(shutil.copytree(folder, tmp_path / "another name"))
    (copy / "README.md").write_text("words")
    assert revision_of(str(copy)) == found
    changed = bytearray((copy / weights.name).read_bytes())
    changed[-1] ^= 1
    (copy / weights.name).write_bytes(changed)
    assert revision_of(str(copy)) != found


def test_the_order_of_several_files_is_that_of_their_names(tmp_path: Path) -> None:
    folders = []
    for first, second in ((b"1", b"2"), (b"2", b"1"), (b"1", b"2")):
        folder = tmp_path / str(len(folders))
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model-00002-of-00002.safetensors").write_bytes(second)
        (folder / "model-00001-of-00002.safetensors").write_bytes(first)
        folders.append(revision_of(str(folder)))
    assert folders[0] == folders[2] != folders[1]


def test_a_model_of_the_hub_has_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0123456789" * 4)
    monkeypatch.setattr("autokv.models.source.snapshot_download", lambda *_, **__: str(snapshot))
    assert revision_of("a/b") == "0123456789" * 4


def test_a_name_that_a_server_offers_can_be_loaded_here(
    tiny_model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model_folder("llama"), tmp_path / "models" / "small")
    settings = Settings(model_roots=(tmp_path / "models",), cache_dir=tmp_path / "cache", offline=True)
    found = locate("small", settings, weights=True)
    assert (found.kind, found.path) == ("folder", (tmp_path / "models" / "small").resolve())
    with pytest.raises(ModelError):
        locate("smaller", settings, weights=True)
