"""Serving a trace: discrete events, one an iteration, carried out by a cost model or by a real model."""

from __future__ import annotations

from autokv.serving.costs import CostModel
from autokv.serving.memory import KVMemory
from autokv.serving.options import ServingOptions
from autokv.serving.outcome import Outcome
from autokv.serving.step import Executor
from autokv.workload import WorkloadTrace


def simulate(
    trace: WorkloadTrace,
    costs: CostModel,
    capacity_bytes: float,
    options: ServingOptions | None = None,
    *,
    link_gb_per_s: float | None = None,
    output_length_ratio: float = 1.0,
) -> Outcome:
    """Predict how ``trace`` is served. The same arguments give the same outcome.

    Args:
        trace: the requests.
        costs: of the configuration on the device.
        capacity_bytes: KV memory, see :func:`kv_capacity_bytes`.
        options: how the server schedules.
        link_gb_per_s: bandwidth between device and host memory, for preemption by swapping.
        output_length_ratio: by how much the configuration stretches outputs.

    Raises:
        RequestError: swapping without a link, prefix caching without block hashes, no memory for a page.
    """
    raise NotImplementedError


def serve(trace: WorkloadTrace, memory: KVMemory, executor: Executor, options: ServingOptions) -> Outcome:
    """Schedule ``trace`` and have ``executor`` carry it out.

    The clock advances by what the executor says that iterations took, and jumps over idle time: a replay on a real
    model does not wait for arrivals.

    Raises:
        RequestError: prefix caching without block hashes.
    """
    raise NotImplementedError
