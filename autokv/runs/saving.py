"""What a search found, stored: its result and the documents of its front, with where their figures come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from autokv.config import ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import CONFIRMED_METRICS, SERVING_METRICS
from autokv.runs.preparing import PreparedRun
from autokv.serving.comparison import Comparison
from autokv.storage import Database, Job, Lease
from autokv.tuning.trial import FrontPoint, TuningResult


def save(
    database: Database,
    job: Job,
    result: TuningResult,
    prepared: PreparedRun,
    comparisons: Mapping[str, Comparison],
    found: Mapping[str, Any],
    lease: Lease,
) -> None:
    """Store the result; ``found`` are facts of the workload that came up on the way."""
    provenance = {
        "job": job.id,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": prepared.request.seed,
        "sampler": prepared.request.sampler,
        "space": prepared.request.space,
        "versions": dict(job.versions),
        "reason": result.reason,
        "decision": None if result.decision is None else asdict(result.decision),
    }
    if result.recommended is not None and result.recommended in comparisons:
        result = replace(result, reason=f"{result.reason}; {comparisons[result.recommended].verdict}")
    documents = [
        _document(point, job, found, provenance, comparisons.get(point.calibration.config.digest))
        for point in result.front
    ]
    database.results.save(job.id, result, documents, workload=found, lease=lease)


def _document(
    point: FrontPoint, job: Job, found: Mapping[str, Any], provenance: Mapping[str, Any], comparison: Comparison | None
) -> ConfigurationDocument:
    """The document of one point of a front; what was not measured on the job's hardware is named as predicted."""
    judged = point.validation or point.calibration
    return ConfigurationDocument(
        pipeline=point.calibration.config.pipeline,
        model=dict(job.model or {}),
        hardware=dict(job.hardware or {}),
        workload={**(job.workload or {}), **found},
        measured=_metrics(point.calibration),
        validated=None if point.validation is None else _metrics(point.validation),
        serving=None if comparison is None else comparison.to_dict(),
        provenance={
            **provenance,
            "trial": point.trial,
            "source": point.source,
            "write": point.calibration.config.pipeline.write.rule,
            "predicted": sorted((SERVING_METRICS | CONFIRMED_METRICS).intersection(judged.metrics)),
        },
    )


def _metrics(measurement: Measurement) -> dict[str, Any]:
    return {name: asdict(statistics) for name, statistics in measurement.metrics.items()}
