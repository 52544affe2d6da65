"""The probe: what this machine is, and a second's worth of measuring how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median, quantiles

import torch

from autokv.errors import RequestError
from autokv.hardware import system
from autokv.hardware.profile import HardwareProfile, Rate

SECONDS_PER_RATE = 0.3
"""Time of each of the three measurements; a run that has begun is finished."""
MAX_RUNS = 50
_COPY_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Larger than any cache on the way; halved until a few of them fit into memory."""
_MATRIX = {"cpu": 512, "cuda": 8192}


def probe(device: torch.device | str = "cpu") -> HardwareProfile:
    """Describe and measure ``device`` in about a second.

    Raises:
        RequestError: no such device here.
    """
    place, found = _find(device)
    return HardwareProfile(
        name=found.name,
        kind="cuda" if place.type == "cuda" else "cpu",
        cores=found.cores,
        memory_bytes=found.memory_bytes,
        capabilities=found.capabilities,
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        copy_gb_per_s=_copy_rate(place, found.memory_bytes),
        float32_gflops=_matmul_rate(place, torch.float32),
        bfloat16_gflops=_matmul_rate(place, torch.bfloat16),
    )


def _find(device: torch.device | str) -> tuple[torch.device, system.System]:
    try:
        place = torch.device(device)
        if place.type == "cpu":
            return place, system.cpu()
        if place.type == "cuda" and torch.cuda.is_available():
            return place, system.cuda(place)
    except (RuntimeError, AssertionError):  # what torch raises for a device or an index that it does not know
        pass
    raise RequestError(f"{str(device)!r} is not here", field="device", remedy="use cpu, or cuda where there is one")


def _copy_rate(device: torch.device, memory: int) -> Rate:
    size = _COPY_BYTES[device.type]
    while size > memory // 16:
        size //= 2
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return _rate(lambda: target.copy_(source), 2 * size / 1e9, device)


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> Rate:
    size = _MATRIX[device.type]
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    return _rate(lambda: left @ right, 2 * size**3 / 1e9, device)


def _rate(run: Callable[[], object], work: float, device: torch.device) -> Rate:
    """Work per second over timed runs, after one that warms up; at least two runs are timed."""
    rates: list[float] = []
    run()
    _finish(device)
    end = time.perf_counter() + SECONDS_PER_RATE
    while len(rates) < 2 or (len(rates) < MAX_RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        run()
        _finish(device)
        rates.append(work / (time.perf_counter() - start))
    lower, _, upper = quantiles(rates, n=4, method="inclusive")
    return Rate(median=median(rates), spread=upper - lower, n=len(rates))


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
