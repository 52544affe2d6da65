"""What one evaluation of one configuration gives: metrics with their spread, and every sample behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from autokv.config import CompressionConfig
from autokv.evaluation.metrics import METRICS


@dataclass(frozen=True)
class Statistics:
    """A metric over ``n`` samples. ``p95`` and ``worst`` look towards the bad side of the metric's direction."""

    mean: float
    std: float
    p95: float
    worst: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float], *, maximize: bool) -> Statistics:
        """Statistics of at least one value; ``std`` is the sample standard deviation (0 for one sample)."""
        array = np.asarray(values, dtype=np.float64)
        bad = -array if maximize else array
        sign = -1.0 if maximize else 1.0
        return cls(
            mean=float(array.mean()),
            std=float(array.std(ddof=1)) if array.size > 1 else 0.0,
            p95=sign * float(np.percentile(bad, 95)),
            worst=sign * float(bad.max()),
            n=int(array.size),
        )


@dataclass(frozen=True)
class Measurement:
    """One configuration, judged.

    ``samples`` has one mapping per prompt: ``id``, ``kind``, ``context_tokens`` and the sample's metrics by name.
    """

    config: CompressionConfig
    metrics: Mapping[str, Statistics]
    samples: Sequence[Mapping[str, Any]]

    @classmethod
    def of_samples(cls, config: CompressionConfig, samples: Sequence[Mapping[str, Any]]) -> Measurement:
        """Aggregate every metric over the samples that have it.

        The mean of ``compression_ratio`` is the mean 16-bit size over the mean size, not a mean of ratios, so that it
        agrees with ``kv_bytes_per_token``.
        """
        metrics = {}
        for name, metric in METRICS.items():
            values = [sample[name] for sample in samples if name in sample]
            if values:
                metrics[name] = Statistics.of(values, maximize=metric.direction == "maximize")
        if "compression_ratio" in metrics:
            both = [one for one in samples if "compression_ratio" in one and "kv_bytes_per_token" in one]
            full = sum(one["compression_ratio"] * one["kv_bytes_per_token"] for one in both)
            if full:
                ratio = full / sum(one["kv_bytes_per_token"] for one in both)
                metrics["compression_ratio"] = replace(metrics["compression_ratio"], mean=ratio)
        return cls(config, metrics, samples)

    def value(self, name: str) -> float:
        """Mean of the metric ``name``.

        Raises:
            KeyError: the metric was not measured.
        """
        return self.metrics[name].mean

    def to_dict(self) -> dict[str, Any]:
        """``digest``, ``config``, ``write``, ``metrics`` and ``samples``, ready for JSON."""
        return {
            "digest": self.config.digest,
            "write": self.config.pipeline.write.rule,
            "config": self.config.model_dump(mode="json"),
            "metrics": {name: asdict(statistics) for name, statistics in self.metrics.items()},
            "samples": [dict(sample) for sample in self.samples],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Measurement:
        """The inverse of :meth:`to_dict`."""
        return cls(
            CompressionConfig.parse(document["config"]),
            {name: Statistics(**statistics) for name, statistics in document["metrics"].items()},
            document["samples"],
        )
