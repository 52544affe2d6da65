"""What would have to change for another answer, found by simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from autokv.serving.engine_options import SLO
from autokv.serving.rate import sustained_rate
from autokv.serving.simulator import SimulatedEngine
from autokv.serving.verdict import SAME, more, size_text
from autokv.workload import WorkloadTrace
from autokv.workload.transform import scale_lengths

OCTAVES = 10
"""Halvings or doublings of memory that are tried."""
BISECTIONS = 2
"""Of the octave in which the answer changes: the memory is found to within a fifth."""
LENGTHS = (2.0, 4.0, 8.0)
"""Times as long that requests are tried."""


@dataclass(frozen=True)
class Advisor:
    """Compares a compressed cache with 16 bits by what each sustains under other conditions."""

    trace: WorkloadTrace
    candidate: SimulatedEngine
    full: SimulatedEngine
    """16 bits, on the same device under the same options."""
    slo: SLO
    context_tokens: int | None = None
    """The longest request that the model takes; None if it does not say."""
    worth: float = SAME
    """Gain, as a share, from which compression pays."""

    def advice(self) -> tuple[str, ...]:
        """Sentences: from which memory on the answer is another; where compression does not pay, whether more load or
        longer requests would make it pay."""
        if self._pays(self.trace, self.full.capacity_bytes):
            return (self._enough_memory(),)
        return (self._less_memory(), self._more_load(), self._longer_requests())

    def _enough_memory(self) -> str:
        have = self.full.capacity_bytes
        found = self._first(lambda memory: not self._pays(self.trace, memory), have, 2.0)
        if found is None:
            return f"It pays with up to {2**OCTAVES} times as much memory too: it is faster, not only smaller"
        return f"With {size_text(found)} for KV caches instead of {size_text(have)}, 16 bits sustain as many requests/s"

    def _less_memory(self) -> str:
        have = self.full.capacity_bytes
        found = self._first(lambda memory: self._pays(self.trace, memory), have, 0.5)
        if found is None:
            return f"Compression does not help with less memory, down to {size_text(have / 2**OCTAVES)} for KV caches"
        what = _better(self._gain(self.trace, found))
        return f"With {size_text(found)} for KV caches instead of {size_text(have)}, compression {what}"

    def _more_load(self) -> str:
        memory = self.full.capacity_bytes
        new, old = (self._sustained(one, self.trace, memory) for one in (self.candidate, self.full))
        return f"Compression does not help at a higher rate: it sustains {new:.3g} requests/s, 16 bits {old:.3g}"

    def _longer_requests(self) -> str:
        longest = int((self.trace.input_tokens + self.trace.output_tokens).max())
        tried = [factor for factor in LENGTHS if self.context_tokens is None or factor * longest <= self.context_tokens]
        for factor in tried:
            gain = self._gain(scale_lengths(self.trace, factor), self.full.capacity_bytes)
            if gain is None or gain > self.worth:
                return f"With requests {factor:g} times as long, compression {_better(gain)}"
        if not tried:
            return f"Requests cannot be much longer: the model's context ends at {self.context_tokens:,} tokens"
        return f"Compression does not help longer requests, up to {tried[-1]:g} times as long"

    def _first(self, holds: Callable[[float], bool], start: float, factor: float) -> float | None:
        """The memory nearest to ``start``, going by ``factor``, at which ``holds``."""
        outside, inside = start, start * factor
        for _ in range(OCTAVES):
            if holds(inside):
                break
            outside, inside = inside, inside * factor
        else:
            return None
        for _ in range(BISECTIONS):
            middle = (outside * inside) ** 0.5
            outside, inside = (outside, middle) if holds(middle) else (middle, inside)
        return inside

    def _pays(self, trace: WorkloadTrace, memory: float) -> bool:
        gain = self._gain(trace, memory)
        return gain is None or gain > self.worth

    def _gain(self, trace: WorkloadTrace, memory: float) -> float | None:
        """How much more the candidate sustains, as a share; None where only 16 bits sustain nothing."""
        new = self._sustained(self.candidate, trace, memory)
        old = self._sustained(self.full, trace, memory) if new else 0.0
        return new / old - 1 if old else None if new else 0.0

    def _sustained(self, engine: SimulatedEngine, trace: WorkloadTrace, memory: float) -> float:
        found = sustained_rate(trace, replace(engine, capacity_bytes=memory), self.slo)
        return 0.0 if found is None else found.requests_per_s


def _better(gain: float | None) -> str:
    return "serves what 16 bits cannot" if gain is None else f"sustains {more(gain)} requests/s"
