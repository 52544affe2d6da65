"""What a result recommends and why, in words, once it is known how the trace is served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.naming import aim, label
from autokv.runs.serving_judge import ServingJudge
from autokv.serving.compare import overload
from autokv.serving.comparison import Comparison
from autokv.serving.verdict import SAME, hedged, more, percent, size_text, times
from autokv.tuning.objectives import constraints_of
from autokv.tuning.recommend import BYTES, UTILITY, no_rival, rivals
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import Decision, TuningResult

MOVED = 1.25
"""How far the machine's pace may move before it is said."""
UNSTEADY = 10.0
"""From which the times of a run say little."""
TOLD = 0.2
"""Share of the requests within the SLO from which a trace's goodput is worth telling; of fewer it is chance."""
WITHOUT_SLO = ("goodput_requests_per_s", "throughput_tokens_per_s")
"""What decides, unless the user says, where nothing keeps the SLO."""
EVALUATION_MOVED = "attention_baseline_moved"


def decided(
    result: TuningResult, request: TuningRequest, serving: ServingJudge | None, comparisons: Mapping[str, Comparison]
) -> TuningResult:
    """``result`` with its decision completed: what the recommended configuration gains on the trace, what would have to
    change for another answer, and what a reader of the figures must know."""
    decision = result.decision
    if decision is None:
        return result
    notes = [*decision.notes, *_pace(result, serving)]
    if serving is None:
        return replace(result, decision=replace(decision, notes=tuple(notes)))
    confirmed = {one.validation.config.digest: one.validation for one in result.front if one.validation is not None}
    chosen = confirmed[result.recommended or ""]
    predicted = serving.full.costs.predicted
    found = comparisons[chosen.config.digest]
    notes += list(filter(None, [overload(found.candidate.outcome)]))
    notes += [predicted] if predicted else []
    notes += _price(chosen, decision)
    if request.utility is None and decision.objective in WITHOUT_SLO:
        notes.insert(0, f"No configuration keeps the SLO at any rate, so {label(decision.objective)} decided")
    constraints = constraints_of(request)
    identity = chosen.config.pipeline.is_identity
    contender = _nearest(rivals(confirmed.values(), constraints)) if identity else chosen
    decision = replace(
        decision,
        headline=_headline(chosen, decision, found, no_rival(confirmed.values(), constraints)),
        advice=serving.advice(contender) if contender is not None and decision.objective == UTILITY else (),
        notes=tuple(dict.fromkeys(notes)),
    )
    return replace(result, decision=decision)


def _nearest(able: Sequence[Measurement]) -> Measurement | None:
    """The one that comes nearest to paying; of equals the smallest."""
    known = [one for one in able if UTILITY in one.metrics]
    return max(known, key=lambda one: (one.value(UTILITY), -one.value(BYTES)), default=None)


def _headline(chosen: Measurement, decision: Decision, found: Comparison, none_left: str) -> str:
    gain = (
        (none_left or _plain(decision, found)) if chosen.config.pipeline.is_identity else _gain(chosen, decision, found)
    )
    said = hedged(gain, found.basis)
    return gain if said == gain else said[:1].upper() + said[1:]


def _plain(decision: Decision, found: Comparison) -> str:
    """Why no compression is the answer."""
    if decision.objective != UTILITY:
        return f"No compressed configuration beats 16 bits: they have the {aim(decision.objective)}"
    full = found.full
    if full is None or found.memory_short:
        return "Compression does not help this workload: no configuration sustains more requests/s than 16 bits"
    memory = f"{size_text(full.report.peak_kv_bytes)} of {size_text(full.report.capacity_bytes)}"
    return f"Compression does not help this workload: the 16-bit cache peaks at {memory}"


def _gain(chosen: Measurement, decision: Decision, found: Comparison) -> str:
    full = found.full
    parts = []
    if full is not None:
        parts.append(
            f"{times(found.candidate.concurrent_requests / full.concurrent_requests)} as many requests at once"
        )
        before, after = (decision.baseline.get(UTILITY), chosen.value(UTILITY))
        if before:
            parts.append(f"sustains {more(after / before - 1)} requests/s within the SLO")
        good, was = (run.report.goodput_requests_per_s for run in (found.candidate, full))
        told = (found.candidate.report.slo_attainment or 0.0) >= TOLD
        if told and good and was and abs(good / was - 1) > SAME:
            parts.append(f"goodput {percent(good, was)} at this trace's rate")
    elif found.impossible:
        parts.append("serves what 16 bits cannot")
    if "kl_divergence" in chosen.metrics:
        parts.append(f"KL {chosen.value('kl_divergence'):.2g}")
    return ", ".join(parts)


def _price(chosen: Measurement, decision: Decision) -> list[str]:
    name = "price_per_million_tokens"
    if name not in chosen.metrics:
        return []
    before = decision.baseline.get(name)
    instead = "" if before is None or chosen.config.pipeline.is_identity else f" instead of {before:.3g} with 16 bits"
    return [f"A million output tokens cost {chosen.value(name):.3g}{instead}, at the rate that is sustained"]


def _pace(result: TuningResult, serving: ServingJudge | None) -> list[str]:
    """Whether the machine's pace moved while it was timed."""
    measured = (*(trial.measurement for trial in result.trials), *(point.validation for point in result.front))
    looks = [
        float(sample[EVALUATION_MOVED])
        for measurement in measured
        if measurement is not None
        for sample in measurement.samples
        if sample.get(EVALUATION_MOVED)
    ]
    moved = max(max(looks, default=1.0) / min(looks, default=1.0), 1.0 if serving is None else serving.moved)
    if moved < MOVED:
        return []
    said = f"The 16-bit baseline's own time moved by {times(moved)} during the run: "
    if moved >= UNSTEADY:
        return [said + "its times are unreliable; tune again on a less busy machine"]
    return [said + "times are compared with the baseline beside them"]
