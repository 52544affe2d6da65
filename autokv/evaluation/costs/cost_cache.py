"""Measured times by what they depend on, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Protocol, Self

PRECISE = 0.03
"""Share of a time; smaller differences are ties."""


@dataclass(frozen=True)
class KernelTime:
    """A time that was measured."""

    seconds: float
    """Median of its runs."""
    spread: float
    """Interquartile range; 0 of a single run."""
    runs: int

    @property
    def precise(self) -> bool:
        """Whether the median is known to about :data:`PRECISE` of itself, by the spread of its runs."""
        return self.spread <= PRECISE * self.seconds * math.sqrt(self.runs)

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Of at least one run."""
        spread = 0.0
        if len(seconds) > 1:
            low, _, high = quantiles(seconds, n=4, method="inclusive")
            spread = high - low
        return cls(median(seconds), spread, len(seconds))


class CostCache(Protocol):
    """Times by key, see :func:`key_of`."""

    def get(self, key: str) -> KernelTime | None:
        """The newest time of ``key``, or None."""
        ...

    def put(self, key: str, document: Mapping[str, Any], time: KernelTime) -> None:
        """Keep a time and what it depends on; a key may be measured again."""
        ...


class MemoryCache:
    """A cache that lasts as long as the process."""

    def __init__(self) -> None:
        self._times: dict[str, KernelTime] = {}

    def get(self, key: str) -> KernelTime | None:
        """See :class:`CostCache`."""
        return self._times.get(key)

    def put(self, key: str, document: Mapping[str, Any], time: KernelTime) -> None:
        """See :class:`CostCache`."""
        self._times[key] = time


def key_of(document: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the canonical JSON of everything that a time depends on."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
