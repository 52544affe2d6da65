"""Synthesized traffic: Poisson arrivals, log-normal lengths."""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from autokv.workload.trace import WorkloadTrace

P95_SIGMAS = 1.6448536269514722
"""The 95th percentile of a normal distribution, in standard deviations."""
START = datetime.fromisoformat("2000-01-01T00:00:00")


def synthesize(
    *,
    requests: int,
    seed: int,
    requests_per_s: float,
    input_tokens: tuple[float, float],
    output_tokens: tuple[float, float],
    name: str = "synthesized",
) -> WorkloadTrace:
    """A trace whose lengths have the given (median, 95th percentile), independent of each other and of time.

    The same arguments give the same trace.
    """
    rng = random.Random(seed)
    arrivals, inputs, outputs = [0.0], [], []
    for _ in range(requests):
        arrivals.append(arrivals[-1] + rng.expovariate(requests_per_s))
        inputs.append(_log_normal(rng, *input_tokens))
        outputs.append(_log_normal(rng, *output_tokens))
    arrival = np.array(arrivals[1:])
    return WorkloadTrace(name, "synthesized", arrival - arrival[0], np.array(inputs), np.array(outputs))


def synthesize_example() -> WorkloadTrace:
    """The trace that ships as ``autokv/data/synthesized_trace.csv``: short chats, quick to evaluate."""
    return synthesize(requests=400, seed=20, requests_per_s=0.5, input_tokens=(700, 2000), output_tokens=(130, 450))


def write_azure_csv(trace: WorkloadTrace, path: str | Path) -> None:
    """Write a trace in the Azure CSV format; arrivals count from the year 2000 and are rounded to microseconds."""
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for arrival, inputs, outputs in zip(trace.arrival_s, trace.input_tokens, trace.output_tokens, strict=True):
        moment = START + timedelta(seconds=float(arrival))
        rows.append(f"{moment:%Y-%m-%d %H:%M:%S.%f}0,{inputs},{outputs}")
    Path(path).write_text("\n".join([*rows, ""]), encoding="utf-8")


def _log_normal(rng: random.Random, median: float, p95: float) -> int:
    return max(1, round(median * math.exp(rng.gauss(0.0, math.log(p95 / median) / P95_SIGMAS))))
