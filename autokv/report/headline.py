"""The saving in words: what the recommended configuration is worth, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autokv.report import view
from autokv.report.format import label, number
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
    """What was decided says it itself; results of versions that did not say are read for it."""
    if result.decision is not None:
        return result.decision.headline
    if point.calibration.config.pipeline.is_identity:
        return NO_HELP
    gain = view.gain(job)
    return _bytes(result, point) if gain is None else _served(gain)


def first_line(result: TuningResult, job: Mapping[str, Any]) -> str:
    """By which metric the recommendation was chosen, and whether that rests on a prediction; empty without one."""
    if result.recommended is None:
        return ""
    predicted = ", predicted, unvalidated" if view.predicted(result, job) else ""
    return f"chosen by {label(view.deciding(result))}{predicted}"


def _served(gain: Mapping[str, Any]) -> str:
    goodput, rate = gain.get("goodput") or 0.0, gain.get("max_rate") or 0.0
    if max(goodput, rate) < 1 + GAIN:
        return NO_HELP
    more = f"goodput {goodput - 1:+.0%}" if goodput >= 1 + GAIN else f"sustained rate {rate - 1:+.0%}"
    return f"{times(gain['concurrent_requests'])} as many requests at once, {more}"


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


def times(ratio: float) -> str:
    """A factor with two figures: ``2.9×``."""
    return f"{ratio:.1f}×" if ratio < 10 else f"{ratio:,.0f}×"
