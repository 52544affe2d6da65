"""Serving: what a trace's requests see on a device, simulated from measured costs."""

from autokv.serving.compare import compare
from autokv.serving.cost_model import CostModel
from autokv.serving.curves import Curve, Grid
from autokv.serving.engine_options import SLO, ServingOptions
from autokv.serving.kv_memory import KVMemory, SequenceBytes, kv_capacity_bytes
from autokv.serving.outcome import Outcome, Timeline
from autokv.serving.rate import max_sustainable_rate
from autokv.serving.simulator import SimulatedEngine, serve, simulate
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
    "SequenceBytes",
    "ServingOptions",
    "SimulatedEngine",
    "Step",
    "Timeline",
    "compare",
    "kv_capacity_bytes",
    "max_sustainable_rate",
    "serve",
    "simulate",
]
