"""The metrics of an evaluation: name, unit, direction and meaning, in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

POSITIVE = frozenset({"bytes", "us", "ms"})
"""Units of what is never 0."""


@dataclass(frozen=True)
class Metric:
    """One metric; ``direction`` says which way is better."""

    name: str
    unit: str
    direction: Literal["minimize", "maximize"]
    meaning: str
    least: float = 0.0
    """No value is below it."""

    @property
    def range(self) -> str:
        """Which values it has, in words."""
        if self.unit == "fraction":
            return "from 0 to 1"
        if self.unit in POSITIVE:
            return "above 0"
        return "any number" if self.least == -math.inf else f"at least {self.least:g}"

    def reaches(self, limit: float, kind: Literal["max", "min"]) -> bool:
        """Whether there are values of at most (``max``) or at least (``min``) ``limit``; of NaN there are none."""
        if kind == "min":
            return limit <= (1.0 if self.unit == "fraction" else math.inf)
        return limit > 0 if self.unit in POSITIVE else limit >= self.least


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("kl_divergence", "nats/token", "minimize", "mean KL(full || compressed) over the continuation's tokens"),
        Metric("top1_agreement", "fraction", "maximize", "tokens whose most likely successor is the full cache's"),
        Metric("nll_delta", "nats/token", "minimize", "change of the reference's negative log-likelihood", -math.inf),
        Metric("task_score", "fraction", "maximize", "recall of the references in the generated answer"),
        Metric("negative_sample_rate", "fraction", "minimize", "samples that the full cache gets right and this loses"),
        Metric("output_length_ratio", "ratio", "minimize", "generated length against the full cache's, free running"),
        Metric("kv_bytes_per_token", "bytes", "minimize", "bytes held per context token, all layers"),
        Metric("compression_ratio", "ratio", "maximize", "mean 16-bit bytes over the mean bytes held"),
        Metric("attention_us", "us", "minimize", "decode attention of one layer over the batch; timed, cold cache"),
        Metric(
            "attention_baseline_us", "us", "minimize", "the same by PyTorch's fastest 16-bit attention, timed in turn"
        ),
        Metric("attention_fp8_us", "us", "minimize", "the same over the full cache in fp8, where the device has it"),
        Metric("compress_us", "us", "minimize", "compression of one layer of one sequence; timed runs"),
        Metric("ttft_ms", "ms", "minimize", "time to first token, mean over the trace's requests; simulated"),
        Metric("ttft_p95_ms", "ms", "minimize", "time to first token that 95% of the requests keep to; simulated"),
        Metric("tpot_ms", "ms", "minimize", "time per output token after the first, mean; simulated"),
        Metric("tpot_p95_ms", "ms", "minimize", "time per output token that 95% keep to; simulated"),
        Metric("throughput_tokens_per_s", "tokens/s", "maximize", "output tokens per second on the trace; simulated"),
        Metric("goodput_requests_per_s", "requests/s", "maximize", "requests per second within the SLO; simulated"),
        Metric("concurrent_requests", "requests", "maximize", "requests of the trace's mean size that memory holds"),
        Metric("sustained_requests_per_s", "requests/s", "maximize", "highest rate within the SLO; simulated"),
        Metric("price_per_million_tokens", "money", "minimize", "the device's price over output tokens at that rate"),
    )
}

SERVING_METRICS = frozenset(
    {
        "ttft_ms",
        "ttft_p95_ms",
        "tpot_ms",
        "tpot_p95_ms",
        "throughput_tokens_per_s",
        "goodput_requests_per_s",
        "concurrent_requests",
    }
)
"""Metrics of a trace's requests on a device: they need a workload with arrivals, and come out of a simulation."""
CONFIRMED_METRICS = frozenset({"sustained_requests_per_s", "price_per_million_tokens"})
"""Metrics of serving that are found for the front alone, since each takes many simulations."""
