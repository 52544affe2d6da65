"""Clocks: one call's time, and timed runs of contenders in turn with cold caches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autokv import settings
from autokv.clocks import clock_of

ROUNDS = 7
"""Timed rounds; each times every contender once, in turn, so that drift of the machine hits all alike."""
ASSUMED_CACHE_BYTES = 32 << 20
"""Of the last-level cache, where the machine does not say."""
MAX_SCRATCH_BYTES = 1 << 29
CUDA_EVICTIONS = 16
"""Passes over the scratch memory ahead of a timed call: long enough that its launches are queued when it starts."""
_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Timing:
    """Microseconds of repeated runs."""

    median: float
    spread: float
    """Interquartile range."""
    n: int

    @classmethod
    def of(cls, microseconds: Sequence[float]) -> Timing:
        """Of at least one run."""
        low, median, high = np.percentile(microseconds, (25, 50, 75))
        return cls(float(median), float(high - low), len(microseconds))

    @classmethod
    def beside(cls, microseconds: Sequence[float], baseline: Sequence[float], usual: float) -> Timing:
        """Of runs that were interleaved with a baseline's: each as its ratio to the baseline's run of that round, times
        what the baseline usually takes. What slows a machine down for a while slows both."""
        return cls.of([usual * time / beside for time, beside in zip(microseconds, baseline, strict=True)])


def clock_us(call: Callable[[], object], device: torch.device) -> float:
    """Microseconds of one call, see :func:`~autokv.clocks.clock_of`."""
    now = clock_of(device)
    start = now()
    call()
    return (now() - start) * 1e6


class ColdClock:
    """Times calls that find nothing of their operands in the last-level cache, as a decoding step finds them.

    Between two steps of attention over one layer a model reads the weights and caches of all other layers.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        size = min(2 * last_level_cache_bytes(device), MAX_SCRATCH_BYTES)
        self._scratch = torch.ones(size // 4, device=device)

    def us(self, call: Callable[[], object]) -> float:
        """Microseconds of one call; on CUDA by the device's own clock, behind evictions that hide the launches."""
        # Reading evicts as well as writing does and leaves nothing that would have to be written back meanwhile.
        if self._device.type != "cuda":
            self._scratch.sum()
            return clock_us(call, self._device)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        stream = torch.cuda.current_stream(self._device)
        torch.cuda.synchronize(self._device)
        for _ in range(CUDA_EVICTIONS):
            self._scratch.sum()
        start.record(stream)
        call()
        end.record(stream)
        torch.cuda.synchronize(self._device)
        return float(start.elapsed_time(end)) * 1e3

    def interleaved(self, contenders: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[list[float]]:
        """Microseconds of every contender in every round, all contenders in turn.

        Returns:
            One list of ``rounds`` times per contender.
        """
        # One untimed round warms allocators and compiles what is compiled at first use.
        for call in contenders:
            call()
        times = [[self.us(call) for call in contenders] for _ in range(rounds)]
        return [list(column) for column in zip(*times, strict=True)]


def last_level_cache_bytes(device: torch.device, cpus: Path = _CPUS) -> int:
    """Bytes of the last-level cache, all instances that torch's threads can use; of a CPU what
    :attr:`~autokv.settings.Settings.cpu_cache_bytes` says, what the machine says, or 32 MiB."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    given = settings.current().cpu_cache_bytes
    if given is not None:
        return given
    found: dict[tuple[int, str], int] = {}
    for index in cpus.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, size, shared = (
                (index / name).read_text(encoding="utf-8").strip() for name in ("level", "size", "shared_cpu_list")
            )
            found[int(level), shared] = int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    last = max((level for level, _ in found), default=0)
    sizes = sorted((size for (level, _), size in found.items() if level == last), reverse=True)
    return sum(sizes[: torch.get_num_threads()]) or ASSUMED_CACHE_BYTES
