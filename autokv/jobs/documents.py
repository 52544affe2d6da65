"""The documents that a user downloads: a configuration with where its figures come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from autokv.config import ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import CONFIRMED_METRICS, SERVING_METRICS
from autokv.serving.comparison import Comparison
from autokv.tuning.trial import FrontPoint


def document(
    point: FrontPoint,
    *,
    model: Mapping[str, Any],
    hardware: Mapping[str, Any],
    workload: Mapping[str, Any],
    provenance: Mapping[str, Any],
    comparison: Comparison | None,
) -> ConfigurationDocument:
    """The document of one point of a front; what was not measured on ``hardware`` is named as predicted."""
    judged = point.validation or point.calibration
    return ConfigurationDocument(
        pipeline=point.calibration.config.pipeline,
        model=dict(model),
        hardware=dict(hardware),
        workload=dict(workload),
        measured=_metrics(point.calibration),
        validated=None if point.validation is None else _metrics(point.validation),
        serving=None if comparison is None else comparison.to_dict(),
        provenance={
            **provenance,
            "trial": point.trial,
            "source": point.source,
            "predicted": sorted((SERVING_METRICS | CONFIRMED_METRICS).intersection(judged.metrics)),
        },
    )


def _metrics(measurement: Measurement) -> dict[str, Any]:
    return {name: asdict(statistics) for name, statistics in measurement.metrics.items()}
