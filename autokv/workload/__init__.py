"""Workload traces: reading, summarising and synthesizing them; the context lengths and concurrency they ask for."""

from __future__ import annotations

from autokv.workload.concurrency import mean_concurrency
from autokv.workload.context_lengths import ContextPlan, context_lengths
from autokv.workload.reading import read_trace
from autokv.workload.scenarios import SCENARIOS, Scenario, classify
from autokv.workload.synthesis import synthesize, write_azure_csv
from autokv.workload.trace import PrefixBlocks, RejectedRows, TraceSummary, WorkloadTrace

__all__ = [
    "SCENARIOS",
    "ContextPlan",
    "PrefixBlocks",
    "RejectedRows",
    "Scenario",
    "TraceSummary",
    "WorkloadTrace",
    "classify",
    "context_lengths",
    "mean_concurrency",
    "read_trace",
    "synthesize",
    "write_azure_csv",
]
