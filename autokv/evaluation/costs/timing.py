"""Timed runs, looked up before they are made; at which sizes they are made, and how points between are drawn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from autokv.clocks import PROCESSOR_TIME
from autokv.evaluation.costs.cost_cache import CostCache, KernelTime, MemoryCache, key_of

RUNS = 5
SECONDS = 1.0
"""Of one point's runs, as far as a single run lets."""
AGAIN_SECONDS = 0.25
"""Of one point that is timed again, as far as the least number of rounds lets."""
MOST_ROUNDS = 15
"""In which points are timed again, in turn."""
ANCHOR_LOOKS = 9
"""At the yardstick when a device is first timed; the faster half of them counts."""
BETWEEN = 4
"""Points drawn from one measured point to the next of a curve that bends."""


class Timed(NamedTuple):
    """One run of something."""

    seconds: float
    beside: float | None = None
    """Of work around it that is always the same, if there is any."""


Run = Callable[[], Timed]
"""Runs something once."""
_PACKAGES = ("autokv", "torch", "transformers", "triton")


def versions() -> dict[str, str | None]:
    """Of what a time depends on; None of what is not installed."""
    return {package: _version(package) for package in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass
class Stopwatch:
    """Times calls on one device, unless what they depend on has been timed before.

    A machine is slower and faster from one moment to the next: other processes take its caches and its memory's
    bandwidth. So what counts of every run is its ratio to work that is always the same, times what that took when this
    device was first timed, which is kept with the times: work around the run itself where it says how long that took,
    else a yardstick, looked at before and after.

    Args:
        device: fingerprint of the device.
        kernels: name of the kernel backend.
        now: seconds, see :func:`~autokv.clocks.clock_of`.
        cache: where times are kept.
        say: told in a few words what is about to be measured.
        check: called before every measurement; may raise to stop.
        yardstick: runs some milliseconds of the work that is timed; None takes times as they are.
    """

    device: str
    kernels: str
    now: Callable[[], float]
    cache: CostCache = field(default_factory=MemoryCache)
    say: Callable[[str], None] = lambda line: None
    check: Callable[[], None] = lambda: None
    yardstick: Run | None = None

    def __post_init__(self) -> None:
        self._points: dict[str, _Point] = {}
        self._used: set[str] = set()
        self._paces: list[float] = []
        self._facts = {
            "device": self.device,
            "threads": torch.get_num_threads(),
            "kernels": self.kernels,
            "versions": versions(),
            **(PROCESSOR_TIME if self.now is time.thread_time else {}),
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
        usual: float | None = None,
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
            usual: seconds of the work beside each run when this device was first timed; None looks at the yardstick.
        """
        document = {**self._facts, "shape": dict(shape), "stage": dict(stage), "batch": batch, "tokens": tokens}
        key = key_of(document)
        self._used.add(key)
        if key not in self._points:
            found = self.cache.get(key)
            self._points[key] = point = _Point(document, prepare, found, usual)
            if found is None:
                self.check()
                self.say(f"{stage['kind']} of {batch} x {tokens} tokens")
                del self._points[key]  # an interruption leaves nothing behind
                self._first_runs(point, runs)
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
        ones of this process: ``rounds`` of them, and more where they differ much and are short. One whose fastest run
        takes long is left as it is."""
        groups: dict[str, list[_Point]] = {}
        for key in sorted(keys):
            point = self._points[key]
            if point.fastest <= SECONDS / rounds:
                groups.setdefault(point.group, []).append(point)
        for points in groups.values():
            self.check()
            self.say(f"{points[0].document['stage']['kind']} of {len(points)} forms, in turn")
            prepared = [point.prepare() for point in points]
            for run in prepared:
                run()
            look, start = None, self.now()
            for turn in range(MOST_ROUNDS):
                late = self.now() - start > AGAIN_SECONDS * len(points)
                if turn >= rounds and (late or all(point.time.precise for point in points)):
                    break
                for point, run in zip(points, prepared, strict=True):
                    look = self._turn(point, run, look)
            for point in points:
                self.cache.put(key_of(point.document), point.document, point.time)

    @property
    def moved(self) -> float:
        """How many times as long the same work took in this process's slow moments (90th percentile) as in its fast
        ones (10th); 1 where nothing was timed."""
        if not self._paces:
            return 1.0
        fast, slow = np.percentile(self._paces, (10, 90))
        return float(slow / fast) if fast > 0 else 1.0

    def timed(self, call: Callable[[], object], before: Callable[[], object] = lambda: None) -> Run:
        """``call`` as a run; ``before`` is called ahead of each and is not timed."""

        def run() -> Timed:
            before()
            start = self.now()
            call()
            return Timed(self.now() - start)

        return run

    def _first_runs(self, point: _Point, runs: int) -> None:
        run, look = point.prepare(), None
        first = run()
        if first.seconds > SECONDS:
            self._count(point, first, self._look() if point.looks else None)
            return
        while len(point.runs) < runs and sum(point.runs) < SECONDS:
            look = self._turn(point, run, look)

    def _turn(self, point: _Point, run: Run, look: float | None) -> float | None:
        """Run once. ``look`` is the one at the yardstick just before, if there was one; gives the one behind."""
        if not point.looks:
            self._count(point, run(), None)
            return look
        before = self._look() if look is None else look
        timed, after = run(), self._look()
        self._count(point, timed, (before + after) / 2)
        return after

    def _count(self, point: _Point, timed: Timed, look: float | None) -> None:
        """Add a run, in seconds of the moment at which the device was first timed."""
        now, usual = timed.beside, point.usual
        if look is not None:
            now, usual = look, self._anchor(point.document["shape"])
        pace = now / usual if now and usual else 1.0
        if usual is not None:
            self._paces.append(pace)
        point.runs.append(timed.seconds / pace)

    def _look(self) -> float:
        """Seconds of the yardstick, now; 0 without one."""
        return 0.0 if self.yardstick is None else self.yardstick().seconds

    def _anchor(self, shape: Mapping[str, Any]) -> float:
        if self.yardstick is None:
            return 0.0
        document = {**self._facts, "shape": dict(shape), "stage": {"kind": "yardstick"}}
        key = key_of(document)
        if key not in self._points:
            yardstick = self.yardstick
            point = _Point(document, lambda: yardstick, self.cache.get(key))
            if point.found is None:
                # What disturbs only ever adds: the fast moments are the machine's own.
                looks = sorted(yardstick().seconds for _ in range(ANCHOR_LOOKS))
                point.runs += looks[: (len(looks) + 1) // 2]
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
    usual: float | None = None
    """See :meth:`Stopwatch.seconds`."""
    runs: list[float] = field(default_factory=list)

    @property
    def time(self) -> KernelTime:
        return KernelTime.of(self.runs) if self.runs or self.found is None else self.found

    @property
    def looks(self) -> bool:
        """Whether its runs are scaled by the yardstick."""
        return self.usual is None

    @property
    def fastest(self) -> float:
        """Seconds of the fastest run, which says how long it takes by itself: what disturbs only adds. Where nothing
        ran in this process, what the spread of the earlier runs leaves of their median."""
        return min(self.runs, default=self.time.seconds - 2 * self.time.spread)

    @property
    def group(self) -> str:
        """Equal for points that differ in nothing but the form of what is held."""
        stage = self.document["stage"]
        parts = {name: stage.get(name) for name in ("kind", "state")}
        return key_of({**self.document, "stage": parts})


def ladder(first: int, last: int, ratio: float = 2.0) -> list[int]:
    """Ascending sizes ``first``, ``first * ratio`` and so on below ``last``, and ``last``.

    Ladders of one ``first`` and ``ratio`` share their rungs, whatever their ends.
    """
    sizes, size = [last], float(first)
    while round(size) < last:
        sizes.append(round(size))
        size *= ratio
    return sorted(set(sizes))


def bent(points: Sequence[tuple[int, float]], last: int) -> list[tuple[float, float]]:
    """``(size, seconds)`` with points between them by power laws, and on to ``last`` by the last of these.

    Straight lines between points that are a factor of two apart overstate a quadratic by up to an eighth. Beyond the
    last point the power is between that of a line and that of a square.
    """
    drawn: list[tuple[float, float]] = []
    power = 2.0
    for (x0, y0), (x1, y1) in pairwise(points):
        power = math.log(y1 / y0) / math.log(x1 / x0) if 0 < y0 < y1 else 0.0
        drawn += [(x, y0 * (x / x0) ** power) for x in (x0 * (x1 / x0) ** (at / BETWEEN) for at in range(BETWEEN))]
    x0, y0 = points[-1]
    drawn.append((float(x0), y0))
    if last > x0:
        power = min(max(power, 1.0), 2.0)
        drawn += [(float(x), y0 * (x / x0) ** power) for x in ladder(x0, last, 2 ** (1 / BETWEEN))[1:]]
    return drawn
