"""``HardwareProfile``: what one device is, and how fast it was measured to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from autokv.errors import RequestError

Kind = Literal["cpu", "cuda", "rocm"]
Positive = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1 << 60)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
_GIB = 1 << 30
_DERIVED = {"fingerprint", "dtype"}
"""What stored documents hold beside the fields."""


@dataclass(frozen=True)
class Rate:
    """A rate: median of ``n`` timed runs, and the distance between their quartiles; ``n`` 0 is a data sheet's value."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    median: Positive
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    n: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class HardwareProfile:
    """A device as it was found. Equal hardware has an equal ``fingerprint``; measurements differ from run to run."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Name
    """Marketing name, such as ``NVIDIA H100 80GB HBM3``."""
    kind: Kind
    cores: Count
    """CPU cores that this process may use, or multiprocessors of a GPU."""
    memory_bytes: Count
    """Memory that this process may use; the device's own for a GPU."""
    capabilities: tuple[str, ...]
    """Sorted: ``avx2``, ``avx512``, ``bf16``, ``fp8``, ``sm_90`` …"""
    torch_version: str
    """Of the measurements; empty for a data sheet."""
    threads: Annotated[int, Field(ge=0)]
    """Threads that torch was measured with; 0 for a data sheet."""
    copy_gb_per_s: Rate
    """Memory bandwidth in 10⁹ bytes per second; of a copy, read and write counted, where it was measured."""
    float32_gflops: Rate
    """Matrix multiplication, 10⁹ floating-point operations per second, dense; a multiplication and an addition are two.
    The rates below are alike."""
    bfloat16_gflops: Rate
    source: Literal["measured", "data sheet"] = "measured"
    float16_gflops: Rate | None = None
    """None, here and below, where the device has no such arithmetic, or where it was not measured."""
    float8_gflops: Rate | None = None
    int8_gops: Rate | None = None
    link_gb_per_s: Rate | None = None
    """Copies between host and device memory in 10⁹ bytes per second, one way; None on a CPU."""
    launch_us: Rate | None = None
    """Microseconds of one in a long row of trivial operations: what every operation costs at least."""
    reference: str = ""
    """Where a data sheet's values were taken from, and how those were derived that it does not say."""

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

    @staticmethod
    def from_dict(document: object, where: str = "hardware") -> HardwareProfile:
        """The inverse of :meth:`to_dict`; a document that was written before a field existed loads too.

        Raises:
            RequestError: naming the first field that is wrong, behind ``where``.
        """
        fields = document
        if isinstance(document, Mapping):
            fields = {name: value for name, value in document.items() if name not in _DERIVED}
        try:
            return _adapter().validate_python(fields)
        except ValidationError as error:
            raise invalid(error, where) from None


@cache
def _adapter() -> TypeAdapter[HardwareProfile]:
    return TypeAdapter(HardwareProfile)


def invalid(error: ValidationError, where: str) -> RequestError:
    """One line for what pydantic found first, behind ``where``."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join([where, *(str(part)[:80] for part in first["loc"])])
    remedy = "see docs/hardware.md, or write one with `autokv hardware probe --output FILE`"
    return RequestError(first["msg"][:200], field=path, remedy=remedy)
