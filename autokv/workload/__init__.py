"""Workload traces: reading, measuring, changing, synthesizing and writing them; what they ask of a deployment."""

from __future__ import annotations

from autokv.workload.concurrency import mean_concurrency
from autokv.workload.context_lengths import ContextPlan, context_lengths
from autokv.workload.reading import read_trace
from autokv.workload.scenarios import SCENARIOS, Scenario, classify
from autokv.workload.statistics import TraceStatistics, statistics_of
from autokv.workload.synthesis import generate, resample, synthesize
from autokv.workload.trace import PrefixBlocks, RejectedRows, TraceSummary, WorkloadTrace
from autokv.workload.writers import write_azure_csv, write_trace

__all__ = [
    "SCENARIOS",
    "ContextPlan",
    "PrefixBlocks",
    "RejectedRows",
    "Scenario",
    "TraceStatistics",
    "TraceSummary",
    "WorkloadTrace",
    "classify",
    "context_lengths",
    "generate",
    "mean_concurrency",
    "read_trace",
    "resample",
    "statistics_of",
    "synthesize",
    "write_azure_csv",
    "write_trace",
]
