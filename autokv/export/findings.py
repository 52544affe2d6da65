"""What an engine takes and gets wrong, or does not run on a device: checked when a configuration is exported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

from autokv.errors import RequestError


@dataclass(frozen=True)
class Finding:
    """A warning, or the reason why the engine will not run a configuration."""

    level: Literal["warning", "refusal"]
    message: str
    source: str
    """Where that is known from."""


def warning(message: str, source: str) -> Finding:
    """A finding after which the engine runs."""
    return Finding("warning", message, source)


def refusal(message: str, source: str) -> Finding:
    """A finding after which it does not, or only with wrong output."""
    return Finding("refusal", message, source)


@dataclass(frozen=True)
class Device:
    """What an engine runs on."""

    kind: Literal["cpu", "cuda", "rocm", "apple"]
    capability: int = 0
    """Of CUDA, ten times the compute capability (89, 90, 120)."""
    architecture: str = ""
    """Of ROCm, such as gfx942."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """``cpu``, ``apple``, ``sm89`` (or ``8.9``), ``gfx942``.

        Raises:
            RequestError: none of these.
        """
        lowered = name.lower()
        if lowered in ("cpu", "apple"):
            return cls(lowered)  # type: ignore[arg-type]
        if cuda := re.fullmatch(r"(?:sm_?(\d{2,3})|(\d{1,2})\.(\d))", lowered):
            return cls("cuda", int(cuda[1] or cuda[2] + cuda[3]))
        if re.fullmatch(r"gfx[0-9a-f]{3,4}", lowered):
            return cls("rocm", architecture=lowered)
        raise RequestError(
            f"{name[:40]!r} is no device that a target's limits are known for",
            field="--device",
            remedy="give cpu, apple, a compute capability such as sm89, or an architecture such as gfx942",
        )

    @property
    def blackwell(self) -> bool:
        """Compute capability 10 or later."""
        return self.kind == "cuda" and self.capability >= 100
