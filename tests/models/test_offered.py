"""What a server offers, and that nothing else can be named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from autokv.errors import ModelError
from autokv.models import load, offered
from autokv.models.offered import OfferedModel, resolve
from autokv.settings import Settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No look at the disk is kept, and the hub's cache is empty."""
    monkeypatch.setattr(offered, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(offered, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(offered, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two roots, of which the second is not there yet, and an empty cache."""
    (tmp_path / "models").mkdir()
    return Settings(model_roots=(tmp_path / "models", tmp_path / "more"), cache_dir=tmp_path / "cache", offline=True)


def put(folder: Path, config: object = None, weights: int = 100) -> Path:
    """A folder that looks like a model."""
    folder.mkdir(parents=True)
    document = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048} if config is None else config
    (folder / "config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    if weights:
        (folder / "model.safetensors").write_bytes(b"\0" * weights)
    return folder


def names(settings: Settings) -> dict[str, OfferedModel]:
    found = offered.offered(settings)
    assert [model.name for model in found] == sorted({model.name for model in found})
    return {model.name: model for model in found}


def test_folders_and_files_below_a_root_are_named_by_their_place(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "models"
    put(root / "chat")
    put(root / "org" / "big", {"architectures": ["X"], "text_config": {"max_position_embeddings": 64}}, weights=7)
    (root / "org" / "small.gguf").write_bytes(b"GGUF1234")
    put(root / "org" / "pickled", weights=0)
    (root / "org" / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    put(root / ".git" / "hidden")
    put(root / "1" / "2" / "3" / "4" / "5" / "deep")
    found = names(settings)
    assert found == {
        "chat": OfferedModel("chat", "folder", str(root / "chat"), "LlamaForCausalLM", 2048, 100),
        "org/big": OfferedModel("org/big", "folder", str(root / "org" / "big"), "X", 64, 7),
        "org/small.gguf": OfferedModel("org/small.gguf", "gguf", str(root / "org" / "small.gguf"), None, None, 8),
    }
    assert {name: resolve(name, settings) for name in found} == {name: one.loads for name, one in found.items()}


def test_what_is_found_can_be_loaded(
    settings: Settings, tmp_path: Path, tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model_folder(), tmp_path / "models" / "tiny")
    monkeypatch.setenv("AUTOKV_MODEL_ROOTS", str(tmp_path / "models"))
    found = names(settings)["tiny"]
    loaded = load(resolve("tiny", settings))
    assert (loaded.name, loaded.facts.architecture) == ("tiny", found.architecture)
    assert loaded.facts.context_tokens == found.context_tokens


def test_a_root_that_is_a_model_is_offered_by_its_own_name(tmp_path: Path) -> None:
    root = put(tmp_path / "only")
    assert set(names(Settings(model_roots=(root,), cache_dir=tmp_path / "cache"))) == {"only"}


def test_equal_names_are_told_apart(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ("models", "more"):
        put(tmp_path / root / "org" / "chat")
    hub = put(tmp_path / "hub" / "models--org--chat" / "snapshots" / "abc")
    (hub.parents[1] / "refs").mkdir()
    (hub.parents[1] / "refs" / "main").write_text("abc")
    put(tmp_path / "elsewhere" / "more" / "org" / "chat")
    third = Settings(
        model_roots=(*settings.model_roots, tmp_path / "elsewhere" / "more"), cache_dir=tmp_path / "cache", offline=True
    )
    elsewhere = str(tmp_path / "elsewhere" / "more" / "org" / "chat")
    monkeypatch.chdir(tmp_path)
    assert {name: resolve(name, third) for name in names(third)} == {
        "org/chat": str(tmp_path / "models" / "org" / "chat"),
        "more/org/chat": str(tmp_path / "more" / "org" / "chat"),
        elsewhere: elsewhere,
        "hub/org/chat": "org/chat",
    }


def test_links_that_lead_out_of_the_roots_are_not_followed(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "models"
    inside = put(root / "real")
    outside = put(tmp_path / "secret")
    (tmp_path / "secret.gguf").write_bytes(b"GGUF")
    (root / "linked-inside").symlink_to(inside)
    (root / "linked-outside").symlink_to(outside)
    (root / "linked.gguf").symlink_to(tmp_path / "secret.gguf")
    (root / "circle").symlink_to(root / "circle")
    (root / "up").symlink_to(root)
    partly = put(root / "partly", weights=0)
    (partly / "model.safetensors").symlink_to(outside / "model.safetensors")
    whole = root / "whole"
    whole.mkdir()
    (whole / "config.json").symlink_to(outside / "config.json")
    (whole / "model.safetensors").write_bytes(b"x")
    assert set(names(settings)) == {"real", "linked-inside"}


def test_a_config_that_says_nothing_harms_nothing(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "models"
    for name, config in {"list": "[1]", "broken": "{", "nested": "[" * 100_000, "empty": {}}.items():
        put(root / name, config)
    put(root / "odd", {"architectures": [7], "max_position_embeddings": "many", "text_config": []})
    if os.getuid():
        (put(root / "locked") / "config.json").chmod(0)
    assert names(settings) == {"odd": OfferedModel("odd", "folder", str(root / "odd"), None, None, 100)}


def test_conversions_of_another_transformers_are_not_offered(settings: Settings, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "gguf"
    put(cache / "0" / "old", {"transformers_version": "1.0"})
    put(cache / "1" / "twice", {"transformers_version": version("transformers"), "max_position_embeddings": 1})
    newer = put(cache / "2" / "twice", {"transformers_version": version("transformers"), "max_position_embeddings": 2})
    os.utime(newer, (4e9, 4e9))
    put(cache / "3.partial" / "half", {"transformers_version": version("transformers")}, weights=0)
    assert names(settings) == {"twice": OfferedModel("twice", "cache", str(newer), None, 2, 100)}


def test_the_hub_s_cache_offers_what_main_points_to(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--org--name"
    put(folder / "snapshots" / "old", weights=1)
    put(folder / "snapshots" / "new", weights=2)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("new\n")
    put(tmp_path / "hub" / "models--no--refs" / "snapshots" / "x")
    put(tmp_path / "hub" / "datasets--org--name" / "snapshots" / "x")
    escape = tmp_path / "hub" / "models--org--escape" / "refs"
    escape.mkdir(parents=True)
    (escape / "main").write_text("../../models--org--name/snapshots/new")
    assert names(settings) == {"org/name": OfferedModel("org/name", "hub", "org/name", "LlamaForCausalLM", 2048, 2)}
    assert resolve("org/name", settings) == "org/name"


def test_without_roots_the_disk_is_not_offered(
    tmp_path: Path, tiny_model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model_folder()
    monkeypatch.chdir(folder.parent)
    plain = Settings(model_roots=(), cache_dir=tmp_path / "cache", offline=True)
    assert offered.offered(plain) == ()
    for name in (str(folder), folder.name, f"./{folder.name}", f"../{folder.parent.name}/{folder.name}", "/etc", "~"):
        with pytest.raises(ModelError, match="is not offered here"):
            resolve(name, plain)


def test_a_hub_id_is_what_it_is_unless_the_machine_is_offline_or_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = Settings(model_roots=(), cache_dir=tmp_path / "cache", offline=False)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/new", online) == "org/new"
    put(tmp_path / "org" / "new")
    with pytest.raises(ModelError, match="model org/new: is a model on the hub, and a file or folder"):
        resolve("org/new", online)
    with pytest.raises(ModelError, match="model org/new: is not offered here; see /v1/models"):
        resolve("org/new", online.model_copy(update={"offline": True}))


def test_a_name_that_is_nearly_right_is_helped(settings: Settings, tmp_path: Path) -> None:
    put(tmp_path / "models" / "SmolLM2-135M-Instruct")
    with pytest.raises(ModelError, match=r"did you mean SmolLM2-135M-Instruct\?"):
        resolve("SmolLM-135M-Instruct", settings)


def test_a_model_that_has_just_come_is_found_by_name(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offered, "FRESH_SECONDS", 3600.0)
    monkeypatch.setattr(offered, "_last", {})
    assert offered.offered(settings) == ()
    put(tmp_path / "models" / "new")
    assert offered.offered(settings) == ()
    assert resolve("new", settings) == str(tmp_path / "models" / "new")
