"""``SimulatedEngine``: one configuration on one device, ready to serve a trace by simulation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from autokv.errors import RequestError
from autokv.serving.comparison import SustainableRate
from autokv.serving.cost_model import CostModel
from autokv.serving.engine_options import SLO, ServingOptions
from autokv.serving.kv_memory import KVMemory
from autokv.serving.outcome import Outcome
from autokv.serving.rate import max_sustainable_rate
from autokv.serving.simulator import simulate
from autokv.workload import WorkloadTrace


@dataclass(frozen=True)
class SimulatedEngine:
    """One configuration on one device, ready to serve."""

    name: str
    costs: CostModel
    capacity_bytes: float
    """KV memory, see :func:`~autokv.serving.kv_memory.kv_capacity_bytes`."""
    options: ServingOptions = field(default_factory=ServingOptions)
    link_gb_per_s: float | None = None
    output_length_ratio: float = 1.0
    notes: tuple[str, ...] = ()
    """What a reader of its figures must know."""

    @property
    def memory(self) -> KVMemory:
        """Its blocks; raises RequestError where there is no room for one."""
        return KVMemory(self.capacity_bytes, self.costs.sequence, self.options.block_size)

    def serve(self, trace: WorkloadTrace) -> Outcome:
        """Simulate ``trace``; raises what :func:`~autokv.serving.simulator.simulate` does."""
        return simulate(
            trace,
            self.costs,
            self.capacity_bytes,
            self.options,
            link_gb_per_s=self.link_gb_per_s,
            output_length_ratio=self.output_length_ratio,
        )

    def concurrent_requests(self, trace: WorkloadTrace) -> float:
        """How many requests of the trace's mean size fit into memory at once, each with all of its tokens."""
        memory = self.memory
        outputs = np.maximum(1, np.rint(trace.output_tokens * self.output_length_ratio)).astype(np.int64)
        tokens = trace.input_tokens + outputs - 1  # the last one is never fed back
        sizes, counts = np.unique(tokens, return_counts=True)
        blocks = np.array([memory.blocks_of(int(size)) for size in sizes])
        return float(memory.blocks / np.average(blocks, weights=counts))


def sustained_rate(trace: WorkloadTrace, engine: SimulatedEngine, slo: SLO) -> SustainableRate | None:
    """What a engine sustains; None where no request fits into its memory.

    Raises:
        RequestError: all requests of the trace arrive at once.
    """
    try:
        return max_sustainable_rate(trace, engine.serve, slo)
    except RequestError:
        if trace.timed:
            return None
        raise
