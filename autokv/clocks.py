"""The clock by which a processor's work is timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

FINE = 1e-5
"""Seconds; the step of a clock that tells calls apart."""
READS = 100_000
"""Of the clock until it has moved by a fine step, at most: some 40 ms, in which a coarse one moves too."""


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
