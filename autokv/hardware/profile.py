"""``HardwareProfile``: what one device is, and how fast it was measured to be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

_GIB = 1 << 30


@dataclass(frozen=True)
class Rate:
    """A rate: median of ``n`` timed runs, and the distance between their quartiles; ``n`` 0 is a data sheet's value."""

    median: float
    spread: float
    n: int


@dataclass(frozen=True)
class HardwareProfile:
    """A device as it was found. Equal hardware has an equal ``fingerprint``; measurements differ from run to run."""

    name: str
    """Marketing name, such as ``NVIDIA H100 80GB HBM3``."""
    kind: Literal["cpu", "cuda"]
    cores: int
    """CPU cores that this process may use, or streaming multiprocessors."""
    memory_bytes: int
    """Memory that this process may use; the device's own for a GPU."""
    capabilities: tuple[str, ...]
    """Sorted: ``avx2``, ``avx512``, ``bf16``, ``fp8``, ``sm_90`` …"""
    torch_version: str
    threads: int
    """Threads that torch was measured with."""
    copy_gb_per_s: Rate
    """Memory bandwidth of a copy in 10⁹ bytes per second, read and write counted."""
    float32_gflops: Rate
    """Matrix multiplication, 10⁹ floating-point operations per second."""
    bfloat16_gflops: Rate
    source: Literal["measured", "data sheet"] = "measured"
    float8_gflops: Rate | None = None
    """None where the device has no fp8 arithmetic, or where it was not measured."""
    link_gb_per_s: Rate | None = None
    """Copies between host and device memory in 10⁹ bytes per second, one way; None on a CPU."""
    launch_us: Rate | None = None
    """Microseconds from asking for a trivial operation to having it done: what every operation costs at least."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over what does not change: name, kind, cores, capabilities and whole GiB of memory.

        The versions of torch and of drivers are left out: they say how the device is used, not which it is.
        """
        facts = [self.name, self.kind, self.cores, round(self.memory_bytes / _GIB), list(self.capabilities)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Every field and the fingerprint, ready for JSON."""
        return {**asdict(self), "capabilities": list(self.capabilities), "fingerprint": self.fingerprint}
