"""Timed runs, looked up before they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch

from autokv.evaluation.costs.cache import CostCache, KernelTime, MemoryCache, key_of

RUNS = 5
SECONDS = 1.0
"""Of one point's runs, as far as a single run lets."""
ANCHOR_LOOKS = 9
"""At the yardstick when a device is first timed; the faster half of them counts."""
Run = Callable[[], float]
"""Runs something once and gives its seconds."""
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

    Other processes make a machine slower and faster from one second to the next. So every run stands between two looks
    at a yardstick, work that is always the same: what counts is the ratio of the two, times what the yardstick took
    when this device was first timed, which is kept with the times.

    Args:
        device: fingerprint of the device.
        kernels: name of the kernel backend.
        now: seconds, see :func:`clock_of`.
        cache: where times are kept.
        say: told in a few words what is about to be measured.
        check: called before every measurement; may raise to stop.
        yardstick: some milliseconds of the work that is timed; None takes times as they are.
    """

    device: str
    kernels: str
    now: Callable[[], float]
    cache: CostCache = field(default_factory=MemoryCache)
    say: Callable[[str], None] = lambda line: None
    check: Callable[[], None] = lambda: None
    yardstick: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self._points: dict[str, _Point] = {}
        self._used: set[str] = set()
        self._looks: list[float] = []
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
        prepare: Callable[[], Run],
        *,
        runs: int = RUNS,
    ) -> float:
        """The median of up to ``runs`` runs, or what was measured of the same before.

        A run that warms up goes ahead; it counts where it takes long by itself.

        Args:
            shape: of the tensors.
            stage: a JSON document: what is run.
            batch: sequences.
            tokens: of each.
            prepare: makes what is run.
            runs: at most, and no more of them than a second has room for.
        """
        document = {**self._facts, "shape": dict(shape), "stage": dict(stage), "batch": batch, "tokens": tokens}
        key = key_of(document)
        self._used.add(key)
        if key not in self._points:
            found = self.cache.get(key)
            self._points[key] = point = _Point(document, prepare, found)
            if found is None:
                self.check()
                self.say(f"{stage['kind']} of {batch} x {tokens} tokens")
                del self._points[key]  # an interruption leaves nothing behind
                point.add(self._beside_the_yardstick(shape, prepare(), runs))
                self._points[key] = point
                self.cache.put(key, document, point.time)
        return self._points[key].time.seconds

    @contextmanager
    def used(self) -> Iterator[set[str]]:
        """The keys of all times that are asked for meanwhile."""
        outer, self._used = self._used, set()
        try:
            yield self._used
        finally:
            self._used = outer | self._used

    def again(self, keys: Collection[str], rounds: int) -> None:
        """Time ``keys`` anew, those that differ in nothing but their form in turn, and pool the runs with the earlier
        ones of this process; one that takes long by itself is left as it is."""
        groups: dict[str, list[_Point]] = {}
        for key in sorted(keys):
            point = self._points[key]
            if point.time.seconds <= SECONDS / rounds:
                groups.setdefault(point.group, []).append(point)
        for points in groups.values():
            self.check()
            self.say(f"{points[0].document['stage']['kind']} of {len(points)} forms, in turn")
            prepared = [point.prepare() for point in points]
            for run in prepared:
                run()
            for _ in range(rounds):
                before = self._look()
                for point, run in zip(points, prepared, strict=True):
                    seconds, after = run(), self._look()
                    point.add([seconds * self._scale(point.document["shape"], (before + after) / 2)])
                    before = after
            for point in points:
                self.cache.put(key_of(point.document), point.document, point.time)

    @property
    def moved(self) -> float:
        """How many times as long the yardstick took in this process's slow moments (90th percentile) as in its fast
        ones (10th); 1 where it was not looked at."""
        if not self._looks:
            return 1.0
        fast, slow = np.percentile(self._looks, (10, 90))
        return float(slow / fast) if fast > 0 else 1.0

    def timed(self, call: Callable[[], object], before: Callable[[], object] = lambda: None) -> Run:
        """``call`` as a run; ``before`` is called ahead of each and is not timed."""

        def run() -> float:
            before()
            start = self.now()
            call()
            return self.now() - start

        return run

    def _beside_the_yardstick(self, shape: Mapping[str, Any], run: Run, runs: int) -> list[float]:
        first = run()
        if first > SECONDS:
            return [first * self._scale(shape, self._look())]
        found: list[float] = []
        while len(found) < runs and sum(found) < SECONDS:
            found += self._pair(shape, run)
        return found

    def _pair(self, shape: Mapping[str, Any], run: Run) -> list[float]:
        before = self._look()
        seconds = run()
        return [seconds * self._scale(shape, (before + self._look()) / 2)]

    def _scale(self, shape: Mapping[str, Any], look: float) -> float:
        """From seconds of this moment to those of the moment at which the device was first timed."""
        return self._anchor(shape) / look if look > 0 else 1.0

    def _look(self) -> float:
        """Seconds of the yardstick, now."""
        if self.yardstick is None:
            return 0.0
        start = self.now()
        self.yardstick()
        self._looks.append(self.now() - start)
        return self._looks[-1]

    def _anchor(self, shape: Mapping[str, Any]) -> float:
        document = {**self._facts, "shape": dict(shape), "stage": {"kind": "yardstick"}}
        key = key_of(document)
        if key not in self._points:
            point = _Point(document, lambda: self._look, self.cache.get(key))
            if point.found is None:
                # What disturbs only ever adds: the fast moments are the machine's own.
                looks = sorted(self._look() for _ in range(ANCHOR_LOOKS))
                point.add(looks[: (len(looks) + 1) // 2])
                self.cache.put(key, document, point.time)
            self._points[key] = point
        return self._points[key].time.seconds


@dataclass
class _Point:
    """Something that is timed, and its runs in this process."""

    document: Mapping[str, Any]
    prepare: Callable[[], Run]
    found: KernelTime | None
    """What was known before."""
    runs: list[float] = field(default_factory=list)

    def add(self, seconds: Sequence[float]) -> None:
        self.runs += seconds

    @property
    def time(self) -> KernelTime:
        return KernelTime.of(self.runs) if self.runs or self.found is None else self.found

    @property
    def group(self) -> str:
        """Equal for points that differ in nothing but the form of what is held."""
        stage = self.document["stage"]
        parts = {name: stage.get(name) for name in ("kind", "state")}
        return key_of({**self.document, "stage": parts})
