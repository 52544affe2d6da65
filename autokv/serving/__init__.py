"""Serving: what a trace's requests see on a device, simulated from measured costs."""

from autokv.serving.costs import CostModel
from autokv.serving.curves import Curve, Grid
from autokv.serving.memory import KVMemory, SequenceBytes, kv_capacity_bytes
from autokv.serving.options import SLO, ServingOptions
from autokv.serving.outcome import Outcome, ServingReport, Timeline
from autokv.serving.scheduler import Scheduler
from autokv.serving.simulator import serve, simulate
from autokv.serving.step import Chunk, Executor, Step

__all__ = [
    "SLO",
    "Chunk",
    "CostModel",
    "Curve",
    "Executor",
    "Grid",
    "KVMemory",
    "Outcome",
    "Scheduler",
    "SequenceBytes",
    "ServingOptions",
    "ServingReport",
    "Step",
    "Timeline",
    "kv_capacity_bytes",
    "serve",
    "simulate",
]
