"""What the operating system and the driver say about a device."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

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
