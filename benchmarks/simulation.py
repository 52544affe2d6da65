"""How fast a trace is simulated, and in how much memory.

The Azure conversation trace (``--trace``; without it, a synthesized one of the same size and shape), on a device with
memory to spare and on one that is short of it; then synthesized traces of growing size. Each is simulated in a process
of its own, on one core, whose peak memory is what it says. The costs are those of a model of 8 billion parameters on a
large GPU, made up: they decide how many requests run at once, not how fast that is computed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from autokv.serving import CostModel, Curve, Grid, SequenceBytes, simulate
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.transform import with_rate
from process import peak_mib

COSTS = CostModel(
    rest=Curve((1, 64, 256, 2048), (0.008, 0.0085, 0.010, 0.060)),
    prefill_attention=Curve((64, 1024, 8192), (1e-5, 1e-3, 0.05)),
    compress=Curve((1, 8192), (0.0, 0.001)),
    decode_attention=Grid(
        (1, 64),
        (
            Curve((64, 4096, 16384), (1e-4, 1.5e-4, 4e-4)),
            Curve((64, 4096, 16384), (1e-3, 8e-3, 32e-3)),
        ),
    ),
    sequence=SequenceBytes(131072.0),
)
PLENTY, SHORT = 50e9, 4e9
AZURE_REQUESTS, AZURE_RATE = 19_366, 5.5
SIZES = (10_000, 100_000, 1_000_000)


class Case(NamedTuple):
    trace: str | None
    """File; None is a synthesized one."""
    requests: int
    kv_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="AzureLLMInferenceTrace_conv.csv, or any other trace")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(Case(**json.loads(options.one)))))
        return
    from common import percentiles, write_result  # late: it loads torch

    trace = str(options.trace) if options.trace else None
    cases = {
        "azure conversation, memory to spare": Case(trace, AZURE_REQUESTS, PLENTY),
        "azure conversation, short of memory": Case(trace, AZURE_REQUESTS, SHORT),
        **{f"synthesized, {size:,}": Case(None, size, SHORT) for size in SIZES},
    }
    results = {}
    for name, case in cases.items():
        runs = [_in_a_process(case) for _ in range(options.runs if case.requests < SIZES[-1] else 1)]
        seconds = percentiles([run["seconds"] for run in runs])
        results[name] = {**runs[0], "seconds": seconds, "us_per_request": 1e6 * seconds["p50"] / runs[0]["requests"]}
        print(
            f"{name:38} {seconds['p50']:7.2f} s  {results[name]['us_per_request']:5.1f} us a request  "
            f"{runs[0]['peak_mib']:6.0f} MiB  {runs[0]['preemptions']:,} preemptions"
        )
    print(write_result("simulation", {"one_core": True, "cases": results}))


def one(case: Case) -> dict[str, float]:
    """Simulate one trace, once."""
    found = read_trace(case.trace) if case.trace else _synthesized(case.requests)
    start = time.perf_counter()
    outcome = simulate(found, COSTS, case.kv_bytes)
    seconds = time.perf_counter() - start
    report = outcome.report()
    return {
        "requests": len(found),
        "seconds": seconds,
        "peak_mib": peak_mib(),
        "iterations": report.iterations,
        "max_running": report.max_running,
        "preemptions": report.preemptions,
        "utilization": report.utilization,
    }


def _synthesized(requests: int) -> WorkloadTrace:
    from autokv.workload import synthesize

    found = synthesize(
        requests=requests, seed=0, requests_per_s=AZURE_RATE, input_tokens=(1020, 3500), output_tokens=(129, 450)
    )
    return with_rate(found, AZURE_RATE)


def _in_a_process(case: Case) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", json.dumps(case._asdict())]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    main()
