"""The clocks by which a device's work is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FINE = 1e-5
"""Seconds; the step of a clock that tells calls apart."""
READS = 100_000
"""Of the clock until it has moved by a fine step, at most: some 40 ms, in which a coarse one moves too."""

PROCESSOR_TIME = {"clock": "processor time"}
"""What the key of a kept time says where it was taken by that; one by the time of day says nothing."""


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds that ``device`` has worked for this thread.

    On CUDA the time of day, once everything that was asked for is done. On a CPU the calling thread's processor time:
    what other processes take between does not count, and on an idle machine the two are the same, since a thread that
    waits for others of its own spins (with several threads, unless ``OMP_WAIT_POLICY`` is ``passive``). See
    :func:`processor_clock`.
    """
    if device.type != "cuda":
        return processor_clock()
    from torch.cuda import synchronize

    def now() -> float:
        synchronize(device)
        return time.perf_counter()

    return now


def processor_clock() -> Callable[[], float]:
    """Seconds of processor time that the calling thread has taken: what other processes take meanwhile does not count.

    The time of day where the system counts processor time in coarse steps.
    """
    return time.thread_time if counts_processor_time() else time.perf_counter


@cache
def counts_processor_time() -> bool:
    """Whether a thread's processor time moves in fine steps. What the system states as its resolution does not tell:
    Windows states 0.1 µs and counts in steps of 16 ms."""
    last = time.thread_time()
    for _ in range(READS):
        now = time.thread_time()
        if 0 < now - last <= FINE:
            return True
        last = now
    return False
