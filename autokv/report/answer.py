"""The top of the page: what is gained, with what and at what cost; or plainly that nothing meets the constraints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.naming import label
from autokv.report import view
from autokv.report.changes import Change, change
from autokv.report.describe import describe, explain
from autokv.report.format import heading, number, quantity, unbroken
from autokv.report.front_tables import REFERENCE
from autokv.report.headline import NO_HELP, headline
from autokv.tuning.objectives import Constraint, speedup
from autokv.tuning.trial import FrontPoint, TuningResult

NOISE = "difference within noise"


@dataclass(frozen=True)
class Tile:
    """One figure in large type."""

    heading: str
    metric: str
    value: float
    under: str
    """What it is to be compared with."""
    change: Change | None = None


@dataclass(frozen=True)
class Answer:
    """What the opening section says, in its order."""

    headline: str
    lead: str
    """A sentence, or what stands before the name of the recommended configuration."""
    name: str = ""
    behind: str = ""
    advice: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    notes: Sequence[str] = ()
    config: CompressionConfig | None = None
    others: Sequence[tuple[str, str]] = ()
    """Roles of other points of the front, and their figures."""

    @property
    def lines(self) -> str:
        """The configuration as JSON with one line per stage; empty without one."""
        if self.config is None:
            return ""
        document = self.config.model_dump(mode="json")
        stages = ",\n".join(f'    "{name}": {json.dumps(stage)}' for name, stage in document["pipeline"].items())
        return f'{{\n  "schema_version": "{self.config.schema_version}",\n  "pipeline": {{\n{stages}\n  }}\n}}'


def answer(result: TuningResult, job: Mapping[str, Any]) -> Answer:
    """The gain, three or four figures, the configuration to copy and what else there is."""
    point = view.recommended(result)
    if point is None:
        return _nothing(result, view.limits(job))
    config, gained = point.calibration.config, headline(result, point, job)
    plain = config.pipeline.is_identity
    opening = "If memory runs short: " if gained == NO_HELP else "Recommended: "
    return Answer(
        gained,
        "Recommended: keep the " if plain else opening,
        describe(config),
        "." if plain else f". It {explain(config)}.",
        () if result.decision is None else result.decision.advice,
        list(_tiles(result, point)),
        list(_notes(result, job)),
        config,
        _alternatives(result),
    )


def _notes(result: TuningResult, job: Mapping[str, Any]) -> Iterable[str]:
    """Why this one, and what a reader must know; without what the section on the traffic says."""
    serving = job.get("serving") or {}
    comparison = serving.get("comparison") or {}
    told = {serving.get("predicted"), *(serving.get("notes") or ())} if comparison else set()
    reason = result.reason.removesuffix(f"; {comparison.get('verdict')}")
    if reason:
        yield reason
    if result.decision is not None:
        yield from (note for note in result.decision.notes if note not in told)


def _tiles(result: TuningResult, point: FrontPoint) -> Iterable[Tile]:
    found, full = view.shown(point), view.baseline(result)
    metric = view.quality_metric(result)
    for name in dict.fromkeys((view.deciding(result), view.BYTES)):
        value, theirs = view.mean(found, name), full.get(name)
        if value is None or name in (metric, view.TIME):
            continue
        if theirs is None:
            yield Tile(heading(name), name, value, "")
        else:
            under = f"{quantity(name, theirs)} with 16 bits: "
            yield Tile(heading(name), name, value, under, change(name, value, theirs))
    if metric in found.metrics:
        loss = found.metrics[metric]
        split = "validation prompts" if point.validation else "calibration prompts, not confirmed"
        under = f"mean of {loss.n} {split}; worst {number(loss.worst)}"
        yield Tile(heading(metric), metric, loss.mean, under)
    ratio = view.mean(found, view.RATIO)
    if ratio is not None:
        yield Tile("Decode attention time", view.RATIO, ratio, _timed(found))


def _timed(found: Measurement) -> str:
    """The ratio in words, what it is a ratio to, and fp8's to the same."""
    many = view.batch(found)
    over = f"one layer, {f'{many} sequences' if many > 1 else 'one sequence'}"
    float8, full = view.mean(found, view.FP8_TIME), view.mean(found, view.BASELINE_TIME)
    other = f"fp8 {quantity(view.RATIO, float8 / full)}" if float8 and full else ""
    compared = "" if found.config.pipeline.is_identity else f"timed in turn: {_speed(found)}"
    return "; ".join(part for part in (", ".join(filter(None, (f"of {REFERENCE}", compared))), over, other) if part)


def _speed(found: Measurement) -> str:
    """How attention compares with :data:`REFERENCE`; empty where it was not timed."""
    compared = speedup(found)
    if compared is None or found.config.pipeline.is_identity:  # which is what the others are compared with
        return ""
    ratio, tie = compared
    if tie:
        return NOISE
    return f"{number(ratio)}× faster" if ratio > 1 else f"{number(1 / ratio)}× slower"


def _alternatives(result: TuningResult) -> list[tuple[str, str]]:
    points = {point.calibration.config.digest: point for point in result.front}
    return [
        (", ".join(called).capitalize(), _line(result, points[digest]))
        for digest, called in view.roles(result).items()
        if digest in points and digest != result.recommended
    ]


def _line(result: TuningResult, point: FrontPoint) -> str:
    found = view.shown(point)
    names = dict.fromkeys((view.deciding(result), view.BYTES, view.quality_metric(result)))
    values = [quantity(name, view.mean(found, name)) for name in names if name in found.metrics and name != view.TIME]
    if not found.config.pipeline.is_identity:
        values += [f"attention {text}" for text in [_speed(found)] if text]
    verdict = view.verdict(point)
    over = "" if verdict == "met" else f"; {verdict}"
    return f"{unbroken(describe(point.calibration.config))} ({', '.join(values)}{over})"


def _nothing(result: TuningResult, constraints: Sequence[Constraint]) -> Answer:
    stopped = result.stopped_by == "interrupt"
    gained = "Stopped before anything was confirmed" if stopped else "Nothing meets the constraints"
    miss = view.closest_miss(result, constraints)
    if miss is None:
        nothing = f"None of the {len(result.trials)} trials could be measured; the reasons are below."
        return Answer(gained, result.reason, advice=(nothing,))
    if stopped:
        return Answer(gained, result.reason)
    closest = f"The closest miss is {describe(miss.config)}: {_misses(miss, constraints)}."
    return Answer(gained, result.reason.partition("; ")[0], advice=(closest,), config=miss.config)


def _misses(miss: Measurement, constraints: Sequence[Constraint]) -> str:
    over = [
        f"{label(one.metric)} is {quantity(one.metric, view.mean(miss, one.metric))}, wanted {view.bound(one)}"
        for one in constraints
        if view.excess(one, miss) > 0
    ]
    return "; ".join(over) or "within every limit, but not confirmed"
