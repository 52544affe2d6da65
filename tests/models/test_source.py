"""Finding a model: a hub id, a folder or a file, inside the allowed roots."""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from autokv.errors import ModelError
from autokv.models import inspect, source
from autokv.models.source import locate
from autokv.settings import Settings, current


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "model: not a model name"),
        ("   ", "model: not a model name"),
        ("a\0b", "model: not a model name"),
        ("x" * 300, "the path cannot be read"),
        ("~no-such-user/model", "the path cannot be read"),
        ("x" * 5000, "model: not a model name"),
        ("/no/such/folder", "/no/such/folder: no such file or folder"),
        ("missing.gguf", "missing.gguf: no such file or folder"),
        ("../nowhere", "../nowhere: no such file or folder"),
        ("one/two/three", "one/two/three: no such file or folder"),
        ("autokv/does-not-exist", "cannot be reached"),
        ("does-not-exist", "neither a local path nor"),
    ],
)
def test_what_is_not_there_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ModelError) as refusal:
        inspect(name)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"GGU", b"\x80\x04pickle", b"ggml" * 8])
def test_a_file_without_the_gguf_magic_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="is not a GGUF file"):
        inspect(str(file))


def test_a_folder_that_may_not_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_args: object, **_options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", deny)
    with pytest.raises(ModelError, match=r"the folder cannot be read: .*Permission denied"):
        inspect(str(folder))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RepositoryNotFoundError, "neither a local path nor a model on the Hugging Face Hub"),
        (GatedRepoError, "is gated"),
        (LocalEntryNotFoundError, "cannot be reached"),
        (ConnectionError, "cannot be downloaded: no\\Z"),
    ],
)
def test_what_the_hub_answers_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], message: str
) -> None:
    failure = error.__new__(error)
    failure.args = ("no\nmore lines",)

    def fail(*_args: object, **_options: object) -> str:
        raise failure

    monkeypatch.setattr(source, "snapshot_download", fail)
    with pytest.raises(ModelError, match=message):
        locate("owner/name", current(), weights=True)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("offline", [True, False])
def test_only_safe_files_of_a_hub_model_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, folder: Path, weights: bool, offline: bool
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(source, "snapshot_download", download)
    found = locate("owner/name", Settings(offline=offline), weights=weights)
    assert (found.name, found.kind, found.path, asked["name"]) == ("owner/name", "hub", folder, "owner/name")
    assert asked["local_files_only"] is offline

    def wanted(file: str) -> bool:
        allowed = any(fnmatch(file, pattern) for pattern in asked["allow_patterns"])
        return allowed and not any(fnmatch(file, pattern) for pattern in asked["ignore_patterns"])

    assert wanted("config.json")
    assert wanted("model-00001-of-00002.safetensors") is weights
    assert wanted("tokenizer.json") is weights
    for unsafe in ("pytorch_model.bin", "modeling_x.py", "model.pth", "original/consolidated.safetensors"):
        assert not wanted(unsafe)


def test_a_local_folder_wins_over_a_hub_id(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder.parent)
    assert locate(folder.name, current(), weights=False).kind == "folder"


def test_roots_confine_local_paths(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for root in (allowed, other):
        root.mkdir()
    inside = Path(shutil.copytree(folder, allowed / "model"))
    monkeypatch.setenv("AUTOKV_MODEL_ROOTS", os.pathsep.join([str(allowed), str(other)]))
    assert inspect(str(inside)).layers == 3
    for outside in (folder, tmp_path, allowed / ".." / folder.name, tmp_path / "allowed-not"):
        with pytest.raises(ModelError, match="outside the allowed folders"):
            inspect(str(outside))


def test_links_that_lead_out_of_the_roots_are_refused(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(folder)
    inside = Path(shutil.copytree(folder, allowed / "model"))
    (inside / "model.safetensors").unlink()
    (inside / "model.safetensors").symlink_to(folder / "model.safetensors")
    monkeypatch.setenv("AUTOKV_MODEL_ROOTS", str(allowed))
    for name in ("link", "model"):
        with pytest.raises(ModelError, match="outside the allowed folders"):
            inspect(str(allowed / name))
