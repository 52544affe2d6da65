"""The top of the page: what is gained, with what and at what cost; or plainly that nothing meets the constraints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.naming import label
from autokv.report import view
from autokv.report.changes import change
from autokv.report.describe import describe, explain
from autokv.report.format import heading, number, quantity
from autokv.report.front_tables import REFERENCE
from autokv.report.headline import NO_HELP, headline
from autokv.report.html import Markup, data, join, tag, unbroken
from autokv.tuning.objectives import Constraint, speedup
from autokv.tuning.trial import FrontPoint, TuningResult

NOISE = "difference within noise"


def answer(result: TuningResult, job: Mapping[str, Any]) -> Markup:
    """The opening section: the gain, three or four figures, the configuration to copy and what else there is."""
    point = view.recommended(result)
    if point is None:
        return _nothing(result, view.limits(job))
    config, decision, gained = point.calibration.config, result.decision, headline(result, point, job)
    return join(
        tag("h1", gained),
        tag("p", _lead(config, gained), class_="lead"),
        *(tag("p", _sentence_case(text)) for text in (() if decision is None else decision.advice)),
        _tiles(result, point),
        *(tag("p", _sentence_case(text), class_="note") for text in _notes(result, job)),
        _configuration(config),
        _alternatives(result),
    )


def _lead(config: CompressionConfig, gained: str) -> Markup:
    if config.pipeline.is_identity:
        return join("Recommended: keep the ", tag("b", describe(config)), ".")
    opening = "If memory runs short: " if gained == NO_HELP else "Recommended: "
    return join(opening, tag("b", unbroken(describe(config))), f". It {explain(config)}.")


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


def _tiles(result: TuningResult, point: FrontPoint) -> Markup:
    found, full = view.shown(point), view.baseline(result)
    metric, decided = view.quality_metric(result), view.deciding(result)
    tiles = []
    for name in dict.fromkeys((decided, view.BYTES)):
        value = view.mean(found, name)
        if value is not None and name not in (metric, view.TIME):
            tiles.append(_tile(heading(name), data(name, value), _against(name, value, full.get(name))))
    if metric in found.metrics:
        loss = found.metrics[metric]
        split = "validation prompts" if point.validation else "calibration prompts, not confirmed"
        tiles.append(
            _tile(heading(metric), data(metric, loss.mean), f"mean of {loss.n} {split}; worst {number(loss.worst)}")
        )
    if view.mean(found, view.RATIO) is not None:
        tiles.append(_tile("Decode attention time", data(view.RATIO, view.mean(found, view.RATIO)), _timed(found)))
    return tag("div", join(*tiles), class_="tiles")


def _against(metric: str, value: float, full: float | None) -> Markup:
    if full is None:
        return Markup("")
    return join(f"{quantity(metric, full)} with 16 bits: ", change(metric, value, full))


def _timed(found: Measurement) -> str:
    """The ratio in words, what it is a ratio to, and fp8's to the same."""
    many = view.batch(found)
    over = f"one layer, {f'{many} sequences' if many > 1 else 'one sequence'}"
    float8, full = view.mean(found, view.FP8_TIME), view.mean(found, view.BASELINE_TIME)
    other = f"; fp8 {quantity(view.RATIO, float8 / full)}" if float8 and full else ""
    return f"of {REFERENCE}, timed in turn: {_speed(found)}; {over}{other}"


def _speed(found: Measurement) -> str:
    """How attention compares with :data:`REFERENCE`; empty where it was not timed."""
    compared = speedup(found)
    if compared is None:
        return ""
    ratio, tie = compared
    if tie:
        return NOISE
    return f"{number(ratio)}× faster" if ratio > 1 else f"{number(1 / ratio)}× slower"


def _tile(head: str, figure: Markup, under: str) -> Markup:
    return tag(
        "div", join(tag("p", head, class_="head"), tag("p", figure, class_="figure"), tag("p", under)), class_="tile"
    )


def _configuration(config: CompressionConfig) -> Markup:
    copy = tag("button", "Copy", type="button", class_="copy", data_copies="configuration", aria_live="polite")
    code = tag("div", join(copy, tag("pre", tag("code", stage_lines(config), id="configuration"))), class_="code")
    digest = tag("p", f"SHA-256 {config.digest}", class_="note digest")
    return tag("details", join(tag("summary", "Configuration"), code, digest), open="")


def stage_lines(config: CompressionConfig) -> str:
    """The configuration as JSON with one line per stage."""
    document = config.model_dump(mode="json")
    stages = [f'    "{name}": {json.dumps(stage)}' for name, stage in document["pipeline"].items()]
    body = ",\n".join(stages)
    return f'{{\n  "schema_version": "{config.schema_version}",\n  "pipeline": {{\n{body}\n  }}\n}}'


def _alternatives(result: TuningResult) -> Markup:
    points = {point.calibration.config.digest: point for point in result.front}
    others = {
        digest: called
        for digest, called in view.roles(result).items()
        if digest in points and digest != result.recommended
    }
    items = [
        tag("li", join(tag("b", ", ".join(called).capitalize()), ": ", _line(result, points[digest])))
        for digest, called in others.items()
    ]
    return tag("ul", join(*items), class_="others") if items else Markup("")


def _line(result: TuningResult, point: FrontPoint) -> str:
    found = view.shown(point)
    names = dict.fromkeys((view.deciding(result), view.BYTES, view.quality_metric(result)))
    values = [quantity(name, view.mean(found, name)) for name in names if name in found.metrics and name != view.TIME]
    if not found.config.pipeline.is_identity:
        values += [f"attention {text}" for text in [_speed(found)] if text]
    verdict = view.verdict(point)
    over = "" if verdict == "met" else f"; {verdict}"
    return f"{unbroken(describe(point.calibration.config))} ({', '.join(values)}{over})"


def _nothing(result: TuningResult, constraints: Sequence[Constraint]) -> Markup:
    stopped = result.stopped_by == "interrupt"
    parts = [tag("h1", "Stopped before anything was confirmed" if stopped else "Nothing meets the constraints")]
    miss = view.closest_miss(result, constraints)
    reason = result.reason if stopped or miss is None else result.reason.partition("; ")[0]
    if reason:
        parts.append(tag("p", _sentence_case(reason), class_="lead"))
    if miss is None:
        parts.append(tag("p", f"None of the {len(result.trials)} trials could be measured; the reasons are below."))
    elif not stopped:
        parts.append(tag("p", f"The closest miss is {describe(miss.config)}: {_misses(miss, constraints)}."))
        parts.append(_configuration(miss.config))
    return join(*parts)


def _misses(miss: Measurement, constraints: Sequence[Constraint]) -> str:
    over = [
        f"{label(one.metric)} is {quantity(one.metric, view.mean(miss, one.metric))}, wanted {view.bound(one)}"
        for one in constraints
        if view.excess(one, miss) > 0
    ]
    return "; ".join(over) or "within every limit, but not confirmed"


def _sentence_case(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
