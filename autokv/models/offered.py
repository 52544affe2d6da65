"""What a server offers to tune: the models of the allowed folders, of the cache and of the hub's local cache.

A job names a model by what stands here, never by a path, so that a request cannot reach anything else of the disk.
Loads without torch; only ``config.json`` is read of a model.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.constants import HF_HUB_CACHE

from autokv.errors import ModelError
from autokv.models.context import context_tokens
from autokv.settings import Settings

MAX_DEPTH = 4
"""Folders below a root that are looked into."""
MAX_ENTRIES = 20_000
"""Files and folders of a root that are looked at; what lies beyond is not offered."""
MAX_CONFIG_BYTES = 4 << 20
"""A ``config.json`` that is larger says nothing."""
FRESH_SECONDS = 5.0
"""How long a look at the disk is good for."""
AGAIN_SECONDS = 1.0
"""The same where a name is not found: it may have come since."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


@dataclass(frozen=True)
class OfferedModel:
    """A model that a job may name."""

    name: str
    """Below its root for a folder or a GGUF file, the file's stem for one that was converted, the id on the hub."""
    source: Literal["folder", "gguf", "cache", "hub"]
    loads: str
    """What :func:`autokv.models.load` takes for it: a path, or an id of the hub."""
    architecture: str | None
    context_tokens: int | None
    size_bytes: int
    """Of the weights."""


def offered(settings: Settings) -> tuple[OfferedModel, ...]:
    """Every model, by name; of two that would have one name, the later gets a longer one."""
    return _seen(settings, FRESH_SECONDS)


def resolve(name: str, settings: Settings) -> str:
    """What :func:`autokv.models.load` takes for the model that a job names.

    An id of the hub that is not in its local cache stays as it is: loading it downloads it.

    Raises:
        ModelError: nothing of this name is offered, and it is no hub id that could be downloaded.
    """
    for age in (FRESH_SECONDS, AGAIN_SECONDS):
        models = {model.name: model for model in _seen(settings, age)}
        if name in models:
            break
    found = models.get(name)
    if found is not None and found.source != "hub":
        return found.loads
    if found is None and (settings.offline or not is_hub_id(name)):
        near = get_close_matches(name, models, n=3, cutoff=0.5)
        raise ModelError(
            "is not offered here" + ("" if is_hub_id(name) else ", nor an id of the Hugging Face Hub"),
            field=f"model {name:.200}",
            remedy=f"did you mean {' or '.join(near)}?" if near else "see /v1/models",
        )
    hub_id = name if found is None else found.loads
    if Path(hub_id).exists():
        raise ModelError(
            "is a model on the hub, and a file or folder where the server was started",
            field=f"model {hub_id}",
            remedy="start it elsewhere",
        )
    return hub_id


def is_hub_id(name: str) -> bool:
    """Whether ``name`` is spelled as a model on the Hugging Face Hub is: ``name`` or ``owner/name``."""
    return _HUB_ID.fullmatch(name) is not None


_lock = threading.Lock()
_last: dict[tuple[object, ...], tuple[float, tuple[OfferedModel, ...]]] = {}


def _seen(settings: Settings, age: float) -> tuple[OfferedModel, ...]:
    """The models as they were at most ``age`` seconds ago."""
    key = (settings.model_roots, settings.cache_dir)
    with _lock:
        seen = _last.get(key)
        if seen is None or time.monotonic() - seen[0] > age:
            _last.clear()
            seen = _last[key] = (time.monotonic(), _look(settings))
        return seen[1]


def _look(settings: Settings) -> tuple[OfferedModel, ...]:
    allowed = [root.resolve() for root in (*settings.model_roots, settings.cache_dir)]
    found = [(model, root.name) for root in dict.fromkeys(allowed[:-1]) for model in _of_root(root, allowed)]
    found += [(model, model.source) for model in (*_converted(settings.cache_dir), *_downloaded(Path(HF_HUB_CACHE)))]
    taken: set[str] = set()
    models = []
    for model, place in found:
        names = (model.name, f"{place}/{model.name}", model.loads)
        name = next((name for name in names if name not in taken), None)
        if name is not None:
            taken.add(name)
            models.append(replace(model, name=name))
    return tuple(sorted(models, key=lambda model: model.name))


def _of_root(root: Path, allowed: list[Path]) -> Iterator[OfferedModel]:
    """The model folders and GGUF files below a root, and the root itself where it is one."""
    seen: Counter[str] = Counter()
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        model = _folder(folder, folder.relative_to(root).as_posix() if depth else root.name, "folder")
        if model is not None and _inside(folder, allowed):
            yield model
            continue
        for entry in _entries(folder):
            seen["entries"] += 1
            if seen["entries"] > MAX_ENTRIES:
                return
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH and not entry.name.startswith("."):
                    waiting.append((path, depth + 1))
            elif not _inside(path, allowed):
                continue
            elif entry.is_symlink() and path.is_dir():
                linked = _folder(path, name, "folder")
                if linked is not None:
                    yield linked
            elif path.suffix.lower() == ".gguf" and path.is_file():
                yield OfferedModel(name, "gguf", str(path), None, None, _size(path))


def _converted(cache: Path) -> list[OfferedModel]:
    """Conversions of GGUF files that the transformers of now made: the newest of a name."""
    now = _transformers()
    if now is None:
        return []
    made = [
        (folder.stat().st_mtime, model)
        for folder in (cache / "gguf").glob("*/*")
        if (model := _folder(folder, folder.name, "cache")) is not None
        and _config(folder).get("transformers_version") == now
    ]
    newest = {model.name: model for _, model in sorted(made, key=lambda one: one[0])}
    return list(newest.values())


@cache
def _transformers() -> str | None:
    """Its version, which takes longer to find than everything else here."""
    try:
        return version("transformers")
    except PackageNotFoundError:
        return None


def _downloaded(cache: Path) -> Iterator[OfferedModel]:
    """Models of the hub's local cache, in the revision that ``main`` was when it was fetched last."""
    for entry in _entries(cache):
        name = entry.name.removeprefix("models--").replace("--", "/")
        if not entry.name.startswith("models--") or not is_hub_id(name):
            continue
        with suppress(OSError):
            revision = (Path(entry.path) / "refs" / "main").read_text(encoding="ascii", errors="replace").strip()
            model = _folder(Path(entry.path) / "snapshots" / Path(revision).name, name, "hub")
            if model is not None:
                yield model


def _folder(folder: Path, name: str, source: Literal["folder", "cache", "hub"]) -> OfferedModel | None:
    """The model of a folder that has a configuration and safetensors."""
    sizes = [_size(Path(entry.path)) for entry in _entries(folder) if entry.name.endswith(".safetensors")]
    config = _config(folder) if sizes else {}
    if not config:
        return None
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    architecture = first if isinstance(first, str) else None
    loads = name if source == "hub" else str(folder)
    return OfferedModel(name, source, loads, architecture, _context(config), sum(sizes))


def _config(folder: Path) -> dict[str, Any]:
    """The fields of a ``config.json``; none where there is no such file, or it is none."""
    with suppress(OSError, ValueError, RecursionError), (folder / "config.json").open("rb") as file:
        document = json.loads(file.read(MAX_CONFIG_BYTES))
        return document if isinstance(document, dict) else {}
    return {}


def _context(config: dict[str, Any]) -> int | None:
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        found = part.get("max_position_embeddings")
        if isinstance(found, int) and found > 0:
            rope = part.get("rope_parameters") or part.get("rope_scaling")
            return context_tokens(found, rope if isinstance(rope, dict) else {})
    return None


def _inside(path: Path, allowed: list[Path]) -> bool:
    """Whether a file, or a folder with every file in it, lies in an allowed folder once links are followed."""
    try:
        places = [path.resolve(), *(Path(entry.path).resolve() for entry in _entries(path))]
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return False
    return all(any(place.is_relative_to(root) for root in allowed) for place in places)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name; nothing where it cannot be read or is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
