"""The probe: what this machine is, and a second's worth of measuring how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles

import torch

from autokv.clocks import clock_of
from autokv.errors import RequestError
from autokv.hardware import system
from autokv.hardware.profile import HardwareProfile, Rate

SECONDS_PER_RATE = 0.2
"""Time of each of the measurements; a run that has begun is finished."""
MAX_RUNS = 50
LAUNCHES = 500
"""Operations in the row of which one is timed."""
_COPY_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}
"""Larger than any cache on the way; halved until a few of them fit into memory."""
_LINK_BYTES = 128 << 20
_MATRIX = {"cpu": 512, "cuda": 8192}


def probe(device: torch.device | str = "cpu") -> HardwareProfile:
    """Describe and measure ``device`` in a second or two.

    Raises:
        RequestError: no such device here.
    """
    place, found = _find(device)
    return HardwareProfile(
        name=found.name,
        kind="cpu" if place.type == "cpu" else "rocm" if torch.version.hip else "cuda",
        cores=found.cores,
        memory_bytes=found.memory_bytes,
        capabilities=found.capabilities,
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        copy_gb_per_s=_copy_rate(place, found.memory_bytes),
        float32_gflops=_matmul_rate(place, torch.float32),
        bfloat16_gflops=_matmul_rate(place, torch.bfloat16),
        float16_gflops=_matmul_rate(place, torch.float16) if "float16" in found.capabilities else None,
        float8_gflops=_if_there(_float8_rate, place) if "fp8" in found.capabilities else None,
        int8_gops=_if_there(_int8_rate, place),
        link_gb_per_s=None if place.type == "cpu" else _link_rate(place),
        launch_us=_launch_time(place),
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


def _link_rate(device: torch.device) -> Rate:
    """Page-locked host memory to the device; the way back is about as fast."""
    source = torch.ones(_LINK_BYTES, dtype=torch.uint8).pin_memory()
    target = torch.empty_like(source, device=device)
    return _rate(lambda: target.copy_(source, non_blocking=True), _LINK_BYTES / 1e9, device)


def _matmul_rate(device: torch.device, dtype: torch.dtype) -> Rate:
    left, right = (matrix.to(dtype) for matrix in _matrices(device))
    return _rate(lambda: left @ right, _matmul_work(device), device)


def _float8_rate(device: torch.device) -> Rate:
    left, right = (matrix.to(torch.float8_e4m3fn) for matrix in _matrices(device))
    one = torch.ones((), device=device)
    return _rate(
        lambda: torch._scaled_mm(left, right.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16),
        _matmul_work(device),
        device,
    )


def _int8_rate(device: torch.device) -> Rate:
    left, right = (matrix.to(torch.int8) for matrix in _matrices(device))
    return _rate(lambda: torch._int_mm(left, right.t()), _matmul_work(device), device)


def _if_there(measure: Callable[[torch.device], Rate], device: torch.device) -> Rate | None:
    """What this build of torch can measure on this device."""
    try:
        return measure(device)
    except (RuntimeError, AttributeError, NotImplementedError):
        return None


def _matrices(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    size = _MATRIX[device.type]
    left, right = (torch.randn(size, size, generator=generator, device=device) for _ in range(2))
    return left, right


def _matmul_work(device: torch.device) -> float:
    """10⁹ operations of one product of two :func:`_matrices`."""
    return 2 * _MATRIX[device.type] ** 3 / 1e9


def _launch_time(device: torch.device) -> Rate:
    """Microseconds of one in a row of additions to a single number."""
    number = torch.zeros(1, device=device)

    def row() -> None:
        for _ in range(LAUNCHES):
            number.add_(1)

    return _summary([seconds / LAUNCHES * 1e6 for seconds in _seconds(row, device)])


def _rate(run: Callable[[], object], work: float, device: torch.device) -> Rate:
    """Work per second."""
    return _summary([work / seconds for seconds in _seconds(run, device)])


def _seconds(run: Callable[[], object], device: torch.device) -> list[float]:
    """Seconds of timed runs, after one that warms up; at least two. On a CPU of its work, as costs are timed there."""
    now = clock_of(device)
    seconds: list[float] = []
    run()
    now()  # what runs on a GPU has ended
    end = time.perf_counter() + SECONDS_PER_RATE
    while len(seconds) < 2 or (len(seconds) < MAX_RUNS and time.perf_counter() < end):
        start = now()
        run()
        seconds.append(now() - start)
    return seconds


def _summary(values: Sequence[float]) -> Rate:
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return Rate(median=median(values), spread=upper - lower, n=len(values))
