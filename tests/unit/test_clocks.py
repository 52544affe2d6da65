"""Which clock times a processor's work. Clocks are made up; nothing is timed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from autokv import clocks


@pytest.fixture(autouse=True)
def looked_at_anew() -> Iterator[None]:
    clocks.counts_processor_time.cache_clear()
    yield
    clocks.counts_processor_time.cache_clear()


class Stepping:
    """Processor time that reads of 0.3 microseconds take, shown in steps."""

    def __init__(self, step: float) -> None:
        self._step, self._reads = step, 0

    def __call__(self) -> float:
        self._reads += 1
        return 1000.0 + self._reads * 3e-7 // self._step * self._step


@pytest.mark.parametrize(("step", "fine"), [(1e-9, True), (5e-6, True), (1e-3, False), (0.015625, False), (1e9, False)])
def test_processor_time_counts_where_it_moves_in_fine_steps(
    step: float, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system states: Windows states 1e-7 and moves in steps of 0.015625."""
    monkeypatch.setattr(time, "thread_time", Stepping(step))
    assert clocks.processor_clock() is (time.thread_time if fine else time.perf_counter)
