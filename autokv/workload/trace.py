"""``WorkloadTrace``: the traffic that a configuration is to serve, one row a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 95, 99)
PER_REQUEST = ("arrival_s", "input_tokens", "output_tokens", "session", "turn", "delay_s", "lines")


@dataclass(frozen=True)
class RejectedRows:
    """Rows of the file that could not be read and were left out."""

    count: int = 0
    lines: tuple[int, ...] = ()
    """Line numbers, from 1, of the first few."""
    reason: str = ""
    """What is wrong with the first."""


@dataclass(frozen=True, eq=False)
class PrefixBlocks:
    """Hashes of the prompts' blocks, ragged: prompts that begin with equal hashes begin with equal tokens."""

    block_tokens: int
    """Tokens of a block; the last of a prompt may have fewer."""
    offsets: NDArray[np.int64]
    """Shape [requests + 1]: request i has ``hashes[offsets[i]:offsets[i + 1]]``, in the order of the prompt."""
    hashes: NDArray[np.int64]

    def of(self, request: int) -> NDArray[np.int64]:
        """The hashes of one prompt's blocks."""
        return self.hashes[self.offsets[request] : self.offsets[request + 1]]

    def take(self, requests: NDArray[np.int64]) -> PrefixBlocks:
        """The blocks of ``requests`` (indices, any order, repeats allowed)."""
        counts = np.diff(self.offsets)[requests]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        # Every hash's place: where its request begins, and how far behind that it lies.
        places = np.repeat(self.offsets[:-1][requests] - offsets[:-1], counts) + np.arange(offsets[-1])
        return PrefixBlocks(self.block_tokens, offsets, self.hashes[places])


@dataclass(frozen=True)
class TraceSummary:
    """A trace in a few figures; percentiles are keyed ``p50`` to ``p99``, in tokens."""

    requests: int
    duration_s: float
    requests_per_s: float | None
    """``None`` where all requests arrive at once."""
    input_tokens: Mapping[str, float]
    output_tokens: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class WorkloadTrace:
    """Requests in order of arrival.

    ``arrival_s`` is float64 in seconds and starts at 0; ``input_tokens`` and ``output_tokens`` are int64, at least 1.
    All three have the shape [requests]. Where a format has no arrivals, all of them are 0.
    """

    name: str
    format: str
    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    rejected: RejectedRows = RejectedRows()
    prefixes: PrefixBlocks | None = None
    session: NDArray[np.int64] | None = None
    """Shape [requests]: requests of one conversation have one number."""
    turn: NDArray[np.int64] | None = None
    """Shape [requests]: a request's place in its conversation, from 1."""
    delay_s: NDArray[np.float64] | None = None
    """Shape [requests]: seconds from the end of the turn before in the conversation to this request, NaN where the
    trace does not say. ``arrival_s`` of such a request is the earliest that is possible: the arrival of the turn before
    and the delay."""
    lines: NDArray[np.int64] | None = None
    """Shape [requests]: lines of the file that it was read from, from 1."""
    notes: tuple[str, ...] = ()
    """What its reader saw and a person should know, a sentence each."""

    def take(self, requests: NDArray[np.int64]) -> WorkloadTrace:
        """The requests at ``requests`` (ascending indices), at their own times."""
        kept = {name: column[requests] for name in PER_REQUEST if (column := getattr(self, name)) is not None}
        return replace(self, prefixes=self.prefixes and self.prefixes.take(requests), **kept)

    @property
    def timed(self) -> bool:
        """Whether requests arrive at different times."""
        return bool(self.arrival_s[-1] > self.arrival_s[0])

    @property
    def later_turns(self) -> float:
        """Share of the requests that are not the first of their conversation; 0 without sessions."""
        return 0.0 if self.session is None else 1 - len(np.unique(self.session)) / len(self)

    def __len__(self) -> int:
        return len(self.arrival_s)

    def summary(self) -> TraceSummary:
        """Requests, seconds, rate, and percentiles of the tokens (linear interpolation)."""
        duration = float(self.arrival_s[-1])
        return TraceSummary(
            requests=len(self),
            duration_s=duration,
            requests_per_s=len(self) / duration if duration else None,
            input_tokens=percentiles(self.input_tokens),
            output_tokens=percentiles(self.output_tokens),
        )


def percentiles(tokens: NDArray[np.int64]) -> dict[str, float]:
    """``p50`` to ``p99`` (linear interpolation)."""
    values = np.percentile(tokens, PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(PERCENTILES, values, strict=True)}
