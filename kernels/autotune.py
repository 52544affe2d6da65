"""Launch configurations: measured on request, kept on disk, looked up in no time.

A kernel names a few :class:`Launch` candidates, the first of which is good everywhere, and asks :func:`choose` before
each launch. That never measures: it returns what :func:`tune` once found best on this device, or the first candidate.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from autokv.errors import StorageError
from autokv.files import cache_folder, write_atomic

SCHEMA = "autokv/launches/v1"
MAX_BYTES = 8 * 2**20
"""A larger file is none of ours."""

Key = tuple[str | int, ...]
"""What decides speed besides the device: formats, head_dim, group, buckets of rows and of length."""


@dataclass(frozen=True)
class Launch:
    """How one kernel is launched."""

    warps: int = 4
    stages: int = 2
    sizes: tuple[tuple[str, int], ...] = ()
    """Names and values of its compile-time sizes."""

    @classmethod
    def of(cls, *, warps: int = 4, stages: int = 2, **sizes: int) -> Launch:
        """A launch with the compile-time ``sizes`` of its kernel."""
        return cls(warps, stages, tuple(sorted(sizes.items())))

    def __getitem__(self, name: str) -> int:
        return dict(self.sizes)[name]

    def arguments(self) -> dict[str, int]:
        """Keyword arguments of a Triton launch."""
        return {**dict(self.sizes), "num_warps": self.warps, "num_stages": self.stages}


@dataclass(frozen=True)
class Choice:
    """The best launch of one kernel for one key."""

    kernel: str
    key: Key
    launch: Launch
    microseconds: Mapping[Launch, float]
    """The candidates' times for the operation that was tuned; one that does not run here is missing."""


def bucket(length: int) -> int:
    """The smallest power of two that is at least ``length``: keys never hold exact lengths."""
    return 1 << max(length - 1, 0).bit_length()


def choose(kernel: str, key: Key, candidates: Sequence[Launch], device: torch.device | str | None = None) -> Launch:
    """The launch of ``kernel`` for ``key``: what was measured on the device, else the first of ``candidates``.

    A stored choice that is no longer among ``candidates`` is passed over. ``device``: the current CUDA device if None.
    """
    if _forced is not None:
        return _forced(kernel, key, candidates)
    return _choice(kernel, key, tuple(candidates), device_name(device))


def tune(
    operation: Callable[[], object],
    measure: Callable[[Callable[[], object]], float],
    device: torch.device | str | None = None,
) -> list[Choice]:
    """Measure the candidates of every kernel that ``operation`` launches, where it has several, and store the best.

    ``measure`` times what it is given, in microseconds. A candidate that raises (too much shared memory, say) is
    passed over; ``operation`` must run with the first ones. Kernels are tuned one after the other, each with the best
    launches of those before it.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    asked: dict[tuple[str, Key], Sequence[Launch]] = {}
    best: dict[tuple[str, Key], Launch] = {}

    def current(kernel: str, key: Key, candidates: Sequence[Launch]) -> Launch:
        asked.setdefault((kernel, key), candidates)
        return best.get((kernel, key), candidates[0])

    choices = []
    with forcing(current):
        operation()
        for (kernel, key), candidates in list(asked.items()):
            if len(candidates) == 1:
                continue
            times: dict[Launch, float] = {}
            for candidate in candidates:
                best[kernel, key] = candidate
                # Compilers and launches fail in many ways, all of which mean the same here.
                with contextlib.suppress(Exception):
                    operation()
                    times[candidate] = measure(operation)
            best[kernel, key] = min(times, key=times.__getitem__, default=candidates[0])
            choices.append(Choice(kernel, key, best[kernel, key], times))
    if choices:
        store(choices, device_name(device))
    return choices


def store(choices: Sequence[Choice], device: str) -> Path:
    """Add ``choices`` to the file of ``device``, a name; other processes may do the same. Returns the file.

    Raises:
        StorageError: the cache folder cannot be written.
    """
    path = launches_file(device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=60):
            entries = _read(path) | {_name(choice.kernel, choice.key): _encode(choice) for choice in choices}
            document = {"schema_version": SCHEMA, "device": device, "launches": entries}
            write_atomic(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
    except OSError as error:  # of the lock, a TimeoutError too
        raise StorageError(
            f"cannot be written ({error})", field=str(path), remedy="set AUTOKV_CACHE_DIR to a folder that can be"
        ) from None
    forget()
    return path


def forget() -> None:
    """Read the files anew at the next launch; a process otherwise reads each once."""
    _stored.cache_clear()
    _choice.cache_clear()


def stored_launches(device: str) -> int:
    """How many launches are kept for the device of that name."""
    return len(_read(launches_file(device)))


def launches_file(device: str) -> Path:
    """Where the launches of the device of that name are kept."""
    return cache_folder("kernels") / f"launches-{re.sub(r'[^A-Za-z0-9]+', '-', device).strip('-').lower()}.json"


def device_name(device: torch.device | str | None = None) -> str:
    """The model of a CUDA device, the current one if None; ``interpreter`` for any other."""
    place = device if isinstance(device, torch.device) else torch.device(device or "cuda")
    if place.type != "cuda" or not torch.cuda.is_available():
        return "interpreter"
    return _cuda_name(torch.cuda.current_device() if place.index is None else place.index)


def triton_version() -> str | None:
    """The installed Triton, without importing it."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return None


_forced: Callable[[str, Key, Sequence[Launch]], Launch] | None = None


@contextlib.contextmanager
def forcing(choice: Callable[[str, Key, Sequence[Launch]], Launch]) -> Iterator[None]:
    global _forced
    before, _forced = _forced, choice
    try:
        yield
    finally:
        _forced = before


@cache
def _cuda_name(index: int) -> str:
    return torch.cuda.get_device_name(index)


@lru_cache(maxsize=4096)
def _choice(kernel: str, key: Key, candidates: tuple[Launch, ...], device: str) -> Launch:
    launch = _decode(_stored(launches_file(device)).get(_name(kernel, key)))
    return launch if launch in candidates else candidates[0]


def _name(kernel: str, key: Key) -> str:
    return " ".join(map(str, (kernel, triton_version(), *key)))


def _encode(choice: Choice) -> dict[str, Any]:
    launch = choice.launch
    taken = choice.microseconds.get(launch)
    return {"warps": launch.warps, "stages": launch.stages, "sizes": dict(launch.sizes), "microseconds": taken}


def _decode(entry: object) -> Launch | None:
    """The launch of an entry of the file; None if it is no entry."""
    try:
        return Launch.of(warps=entry["warps"], stages=entry["stages"], **entry["sizes"])  # type: ignore[index]
    except (TypeError, KeyError):
        return None


def _read(path: Path) -> dict[str, Any]:
    """The entries of a file; none if it is missing, damaged or of another kind."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA:
        return {}
    entries = document.get("launches")
    return entries if isinstance(entries, dict) else {}


_stored = lru_cache(maxsize=16)(_read)
