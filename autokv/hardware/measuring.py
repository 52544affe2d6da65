"""The probe: what this machine is, and a second's worth of measuring how fast it is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import psutil
import torch

from autokv.clocks import clock_of
from autokv.errors import RequestError
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
_CPU_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "bf16",
    "avx512_fp16": "float16",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "asimdhp": "float16",
    "bf16": "bf16",
    "sve": "sve",
}
"""Flags of /proc/cpuinfo that decide which kernels run, and what a profile calls them."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class System:
    """Stable facts of one device."""

    name: str
    cores: int
    memory_bytes: int
    capabilities: tuple[str, ...]


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


def _find(device: torch.device | str) -> tuple[torch.device, System]:
    try:
        place = torch.device(device)
        if place.type == "cpu":
            return place, cpu()
        if place.type == "cuda" and torch.cuda.is_available():
            return place, cuda(place)
    except (RuntimeError, AssertionError):  # what torch raises for a device or an index that it does not know
        pass
    raise RequestError(f"{str(device)!r} is not here", field="device", remedy="use cpu, or cuda where there is one")


def cpu() -> System:
    """The CPU as this process may use it: its affinity and its container's memory limit are respected."""
    info = cpu_info(_read("/proc/cpuinfo"))
    flags = (info.get("flags") or info.get("Features") or "").split()
    limits = [int(text) for text in map(_read, _CGROUP_LIMITS) if text.strip().isdecimal()]
    affinity = getattr(os, "sched_getaffinity", None)
    return System(
        name=info.get("model name") or platform.processor() or platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_bytes=min([psutil.virtual_memory().total, *limits]),
        capabilities=tuple(sorted({_CPU_FLAGS[flag] for flag in flags if flag in _CPU_FLAGS})),
    )


def cuda(device: torch.device) -> System:
    """A CUDA or ROCm device.

    fp8 tensor cores came with compute capability 8.9, bf16 with 8.0. fp8 matrix cores came with CDNA 3 (gfx94x); bf16
    is in every architecture that ROCm's PyTorch still supports.
    """
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        architecture = properties.gcnArchName.partition(":")[0]
        capabilities = [architecture, "bf16", "float16"]
        if architecture.startswith(("gfx94", "gfx95", "gfx12")):
            capabilities.append("fp8")
    else:
        version = (properties.major, properties.minor)
        capabilities = [f"sm_{properties.major}{properties.minor}", "float16"]
        capabilities += [name for name, since in (("bf16", (8, 0)), ("fp8", (8, 9))) if version >= since]
    return System(
        name=properties.name,
        cores=properties.multi_processor_count,
        memory_bytes=properties.total_memory,
        capabilities=tuple(sorted(capabilities)),
    )


def cpu_info(text: str) -> Mapping[str, str]:
    """The first processor of a /proc/cpuinfo."""
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _read(path: str) -> str:
    """A file of the kernel, or nothing where this system has none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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
