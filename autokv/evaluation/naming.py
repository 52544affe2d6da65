"""What metrics are called where a person reads them; their own names stay in options and JSON."""

from __future__ import annotations

from autokv.evaluation.metrics import METRICS

LABELS = {
    "kl_divergence": "KL divergence",
    "top1_agreement": "top-1 agreement",
    "nll_delta": "NLL change",
    "task_score": "task score",
    "negative_sample_rate": "negative samples",
    "output_length_ratio": "output length",
    "kv_bytes_per_token": "KV cache",
    "compression_ratio": "compression",
    "attention_us": "attention per layer",
    "attention_baseline_us": "16-bit attention per layer",
    "attention_fp8_us": "fp8 attention per layer",
    "attention_ratio": "attention time vs PyTorch 16-bit",
    "compress_us": "compression per layer",
    "ttft_ms": "time to first token",
    "ttft_p95_ms": "time to first token, p95",
    "tpot_ms": "time per output token",
    "tpot_p95_ms": "time per output token, p95",
    "throughput_tokens_per_s": "throughput",
    "goodput_requests_per_s": "goodput",
    "concurrent_requests": "requests that fit at once",
    "sustained_requests_per_s": "sustained rate within the SLO",
    "price_per_million_tokens": "price",
}
UNITS = {"us": "µs", "fraction": "", "ratio": "×", "bytes": "B/token", "money": "per million tokens"}
RATIOS = frozenset({"attention_ratio"})
"""Ratios that only reports have."""
AIMS = {
    "kv_bytes_per_token": "fewest bytes per token",
    "sustained_requests_per_s": "highest sustained requests/s within the SLO",
    "price_per_million_tokens": "lowest price per million tokens",
    "concurrent_requests": "most requests at once",
}
"""Where the label alone does not make the phrase."""


def label(metric: str) -> str:
    """Name of a metric for a heading; an unlisted metric keeps its own name."""
    return LABELS.get(metric, metric.replace("_", " "))


def unit(metric: str) -> str:
    """Printed unit of a metric; empty for a fraction."""
    if metric in RATIOS:
        return "×"
    written = METRICS[metric].unit if metric in METRICS else ""
    return UNITS.get(written, written)


def aim(metric: str) -> str:
    """What counts as best in a metric, to follow "the": ``lowest KL divergence``, ``highest goodput``."""
    highest = metric in METRICS and METRICS[metric].direction == "maximize"
    return AIMS.get(metric, f"{'highest' if highest else 'lowest'} {label(metric)}")
