"""How an engine schedules: what :class:`~autokv.serving.scheduler.Scheduler` is told besides the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autokv.errors import RequestError

Order = Literal["fcfs", "shortest_first"]
Preemption = Literal["recompute", "swap"]
EARLIER_NAMES = {
    "max_batched_tokens": "max_num_batched_tokens",
    "max_sequences": "max_num_seqs",
    "page_tokens": "block_size",
}
"""What documents that were stored earlier call options, to their names now."""


@dataclass(frozen=True)
class ServingOptions:
    """Continuous batching with chunked prefill (Orca, 2022; Sarathi-Serve, 2024), paged memory (vLLM, 2023).

    Options are called as vLLM's engine calls them.

    Raises:
        RequestError: a value makes no sense.
    """

    max_num_batched_tokens: int = 2048
    """Tokens of one iteration: one per decoding request, the rest for chunks of prompts."""
    max_num_seqs: int = 256
    """Requests in flight at once."""
    order: Order = "fcfs"
    """Who is admitted first: the earliest, or the one with the fewest tokens to prefill."""
    preemption: Preemption = "recompute"
    """What becomes of a request whose memory is taken: its tokens are prefilled again, or wait in host memory."""
    prefix_caching: bool = False
    """Prompts that begin with the same blocks share them; needs a trace with block hashes."""
    block_size: int = 16
    """Tokens of a block of KV memory; a request holds whole blocks."""

    def __post_init__(self) -> None:
        for name in ("max_num_batched_tokens", "max_num_seqs", "block_size"):
            if getattr(self, name) < 1:
                raise RequestError(f"is {getattr(self, name)}", field=name, remedy="give at least 1")
        if self.max_num_seqs > self.max_num_batched_tokens:
            raise RequestError(
                f"{self.max_num_seqs} requests in flight need as many tokens per iteration",
                field="max_num_seqs",
                remedy=f"give at most {self.max_num_batched_tokens}, or raise max_num_batched_tokens",
            )


def usual_options(kind: str) -> ServingOptions:
    """What suits a device: a CPU takes as long for 256 tokens as a GPU for thousands, and decoders wait meanwhile."""
    return ServingOptions(max_num_batched_tokens=256, max_num_seqs=64) if kind == "cpu" else ServingOptions()


@dataclass(frozen=True)
class SLO:
    """Service level objective: what a request must keep to count as good. ``None`` asks nothing.

    Raises:
        RequestError: a limit is not positive.
    """

    ttft_ms: float | None = None
    """Time to first token, from arrival."""
    tpot_ms: float | None = None
    """Time per output token after the first, mean of one request."""

    def __post_init__(self) -> None:
        for name in ("ttft_ms", "tpot_ms"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise RequestError(f"is {limit}", field=name, remedy="give a positive number of milliseconds")

    def __str__(self) -> str:
        limits = [
            f"{name} <= {limit:g} ms"
            for name, limit in (("TTFT", self.ttft_ms), ("TPOT", self.tpot_ms))
            if limit is not None
        ]
        return " and ".join(limits) or "none"
