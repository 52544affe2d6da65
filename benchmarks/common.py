"""What every benchmark shares: where it ran, percentiles, and one results file per benchmark."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("autokv", "torch", "transformers", "numpy", "optuna")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p5, p50 and p95 of at least one value, and how many there are."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), (5, 50, 95))
    return {"p5": float(low), "p50": float(middle), "p95": float(high), "n": len(values)}


def environment() -> dict[str, Any]:
    """Device, processor, memory, versions and date: enough to tell whether two results may be compared."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_result(name: str, result: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json``: the environment and ``result``. Returns the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {"benchmark": name, "environment": environment(), **result}
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")
