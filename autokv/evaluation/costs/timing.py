"""Timed runs, looked up before they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from autokv.evaluation.costs.cache import CostCache, KernelTime, MemoryCache, key_of

RUNS = 5
SECONDS = 1.0
"""Of one point's runs, as far as a single run lets."""
_PACKAGES = ("autokv", "torch", "transformers", "triton")


def versions() -> dict[str, str | None]:
    """Of what a time depends on; None of what is not installed."""
    return {package: _version(package) for package in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds now, once everything that was asked of ``device`` is done."""
    if device.type != "cuda":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


@dataclass
class Stopwatch:
    """Times calls on one device, unless what they depend on has been timed before.

    Args:
        device: fingerprint of the device.
        kernels: name of the kernel backend.
        now: seconds, see :func:`clock_of`.
        cache: where times are kept.
        say: told in a few words what is about to be measured.
        check: called before every measurement; may raise to stop.
    """

    device: str
    kernels: str
    now: Callable[[], float]
    cache: CostCache = field(default_factory=MemoryCache)
    say: Callable[[str], None] = lambda line: None
    check: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._known: dict[str, float] = {}
        self._facts = {
            "device": self.device,
            "threads": torch.get_num_threads(),
            "kernels": self.kernels,
            "versions": versions(),
        }

    def seconds(
        self,
        shape: Mapping[str, Any],
        stage: Mapping[str, Any],
        batch: int,
        tokens: int,
        measure: Callable[[], list[float]],
    ) -> float:
        """The mean of what ``measure`` gives, or what was measured of the same before.

        Args:
            shape: of the tensors.
            stage: a JSON document: what is run.
            batch: sequences.
            tokens: of each.
            measure: seconds of at least one run.
        """
        document = {**self._facts, "shape": dict(shape), "stage": dict(stage), "batch": batch, "tokens": tokens}
        key = key_of(document)
        if key not in self._known:
            found = self.cache.get(key)
            if found is None:
                self.check()
                self.say(f"{stage['kind']} of {batch} x {tokens} tokens")
                found = KernelTime.of(measure())
                self.cache.put(key, document, found)
            self._known[key] = found.seconds
        return self._known[key]

    def runs(
        self, call: Callable[[], object], *, runs: int = RUNS, before: Callable[[], object] = lambda: None
    ) -> list[float]:
        """Seconds of up to ``runs`` calls after one that warms up; that one counts where it takes long by itself.

        ``before`` is called ahead of each and is not timed.
        """
        first = self._one(call, before)
        if first > SECONDS:
            return [first]
        found = [self._one(call, before)]
        while len(found) < runs and sum(found) < SECONDS:
            found.append(self._one(call, before))
        return found

    def _one(self, call: Callable[[], object], before: Callable[[], object]) -> float:
        before()
        start = self.now()
        call()
        return self.now() - start
