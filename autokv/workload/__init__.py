"""Workload traces: reading, measuring, changing, synthesizing and writing them; what they ask of a deployment."""

from __future__ import annotations

from autokv.workload.context_lengths import context_lengths
from autokv.workload.reading import read_trace
from autokv.workload.scenarios import Scenario, classify
from autokv.workload.series import mean_concurrency
from autokv.workload.statistics import TraceStatistics, statistics_of
from autokv.workload.synthesis import generate, resample, synthesize
from autokv.workload.trace import PrefixBlocks, RejectedRows, WorkloadTrace
from autokv.workload.writers import write_azure_csv, write_trace

__all__ = [
    "PrefixBlocks",
    "RejectedRows",
    "Scenario",
    "TraceStatistics",
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
