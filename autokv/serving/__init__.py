"""Serving: what a trace's requests see on a device, simulated from measured costs."""

from autokv.serving.compare import compare
from autokv.serving.comparison import Comparison, Gain, Run, SustainableRate
from autokv.serving.cost_model import CostModel
from autokv.serving.curves import Curve, Grid
from autokv.serving.engine_options import SLO, ServingOptions
from autokv.serving.kv_memory import KVMemory, SequenceBytes, kv_capacity_bytes
from autokv.serving.outcome import Outcome, ServingReport, Timeline
from autokv.serving.rate import default_slo, max_sustainable_rate
from autokv.serving.scheduler import Scheduler
from autokv.serving.simulated_engine import SimulatedEngine
from autokv.serving.simulator import serve, simulate
from autokv.serving.step import Chunk, Executor, Step

__all__ = [
    "SLO",
    "Chunk",
    "Comparison",
    "CostModel",
    "Curve",
    "Executor",
    "Gain",
    "Grid",
    "KVMemory",
    "Outcome",
    "Run",
    "Scheduler",
    "SequenceBytes",
    "ServingOptions",
    "ServingReport",
    "SimulatedEngine",
    "Step",
    "SustainableRate",
    "Timeline",
    "compare",
    "default_slo",
    "kv_capacity_bytes",
    "max_sustainable_rate",
    "serve",
    "simulate",
]
