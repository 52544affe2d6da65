"""The saving in words: what the recommended configuration is worth, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autokv.evaluation.naming import aim, label
from autokv.report import view
from autokv.report.format import number
from autokv.serving.verdict import times
from autokv.tuning.trial import FrontPoint, TuningResult

NO_HELP = "Compression does not help this workload"
SHARES = {
    2 / 3: "Two thirds of",
    1 / 2: "Half",
    1 / 3: "A third of",
    1 / 4: "A quarter of",
    1 / 5: "A fifth of",
    1 / 6: "A sixth of",
    1 / 8: "An eighth of",
    1 / 10: "A tenth of",
}
NEAR = 0.06
"""How far a share may be from the one that is said."""
GAIN = 0.05
"""Smaller gains are none: measured costs are no better than that."""
SHORT = {"kl_divergence": "KL"}


def headline(result: TuningResult, point: FrontPoint, job: Mapping[str, Any]) -> str:
    """The decision's own headline; for results that have none, one made from their figures."""
    if result.decision is not None:
        return result.decision.headline
    if point.calibration.config.pipeline.is_identity:
        return NO_HELP
    return served((job.get("serving") or {}).get("comparison") or {}) or _bytes(result, point)


def first_line(result: TuningResult, job: Mapping[str, Any]) -> str:
    """By which metric the recommendation was chosen, and whether that rests on a prediction; empty without one."""
    if result.recommended is None:
        return ""
    predicted = view.predicted(result, job)
    return f"chosen for the {aim(view.deciding(result))}" + (f", {predicted}" if predicted else "")


def served(comparison: Mapping[str, Any]) -> str:
    """What serving a trace gains against the 16-bit cache, of a comparison's document; empty without that cache."""
    gain = (comparison.get("gains") or {}).get(view.FULL)
    if gain is None:
        return ""
    new, old = comparison["runs"][0], next(run for run in comparison["runs"] if run["name"] == view.FULL)
    fits = f"{times(gain['concurrent_requests'])} as many requests at once"
    good = _more(new["goodput_requests_per_s"], old["goodput_requests_per_s"])
    if good:
        return f"{fits}, goodput {good}"
    rates = [(run.get("max_rate") or {}).get("requests_per_s") for run in (new, old)]
    sustained = _more(*rates)
    if sustained:
        return f"{fits}, sustained rate {sustained}"
    pace = [run["tpot_ms"].get("p50") for run in (new, old)]
    if all(pace) and pace[0] < pace[1] * (1 - GAIN):
        return f"{fits}, time per output token {pace[0] / pace[1] - 1:.0%}"
    return NO_HELP


def _more(new: float | None, old: float | None) -> str:
    """By how much a rate rose; empty where it did not by more than :data:`GAIN`."""
    if not new or new <= (old or 0.0) * (1 + GAIN):
        return ""
    return f"{new / old - 1:+.0%}" if old else f"{number(new)} instead of 0 requests/s"


def _bytes(result: TuningResult, point: FrontPoint) -> str:
    found, metric = view.shown(point), view.quality_metric(result)
    size, full, loss = view.mean(found, view.BYTES), view.baseline(result).get(view.BYTES), view.mean(found, metric)
    quality = "" if loss is None else f", {SHORT.get(metric, label(metric))} {number(loss)}"
    if size is None or full is None:
        return f"{number(size)} bytes per token{quality}"
    return f"{share(size / full)}: {size:,.0f} instead of {full:,.0f} per token{quality}"


def share(ratio: float) -> str:
    """A share of the bytes in words: ``A quarter of the bytes``."""
    nearest = min(SHARES, key=lambda known: abs(ratio / known - 1))
    if abs(ratio / nearest - 1) <= NEAR:
        return f"{SHARES[nearest]} the bytes"
    return f"{times(1 / ratio)} fewer bytes" if ratio < 1 else "No fewer bytes"
