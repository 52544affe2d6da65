"""The top of the page: what to use and what it costs, or plainly that nothing meets the constraints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.describe import describe, explain
from autokv.report.format import heading, label, number, quantity
from autokv.report.html import Markup, data, join, tag, unbroken
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import FrontPoint, TuningResult


def answer(result: TuningResult, job: Mapping[str, Any]) -> Markup:
    """The opening section: one sentence, three figures, the configuration to copy and what else there is."""
    point = view.recommended(result)
    if point is None:
        return _nothing(result, view.limits(job))
    config = point.calibration.config
    found = view.shown(point)
    return join(
        tag("p", "Recommended", class_="eyebrow"),
        tag("h1", unbroken(describe(config))),
        tag("p", sentence(result, point), class_="lead"),
        _tiles(result, found, "validation" if point.validation else "calibration"),
        tag("p", _sentence_case(result.reason), class_="note") if result.reason else Markup(""),
        _configuration(config),
        _alternatives(result),
    )


def sentence(result: TuningResult, point: FrontPoint) -> str:
    """What the configuration does, its bytes against 16 bits, its loss and its attention time, in one sentence."""
    found = view.shown(point)
    plain = view.baseline(result)
    parts = [f"It {explain(point.calibration.config)}"]
    size, full = view.mean(found, view.BYTES), plain.get(view.BYTES)
    if size is not None:
        against = f" instead of {number(full)} in 16 bits ({number(full / size)}× less)" if full is not None else ""
        parts.append(f"the cache takes {number(size)} bytes per token{against}")
    metric = view.quality_metric(result)
    loss = view.mean(found, metric)
    if loss is not None:
        where = "on validation prompts" if point.validation else "on calibration prompts, not confirmed"
        parts.append(f"{label(metric)} is {quantity(metric, loss)} {where}")
    parts.extend(_time_against_baseline(found))
    return f"{parts[0]}: {'; '.join(parts[1:])}." if len(parts) > 1 else f"{parts[0]}."


def _time_against_baseline(found: Measurement) -> Iterable[str]:
    time, full = view.mean(found, view.TIME), view.mean(found, view.BASELINE_TIME)
    if time is None:
        return
    against = f" against {quantity(view.TIME, full)} with the full cache" if full is not None else ""
    float8 = view.mean(found, view.FP8_TIME)
    more = f" ({quantity(view.TIME, float8)} with the full cache in fp8)" if float8 is not None else ""
    many = view.batch(found)
    over = f" over {many} sequences at once" if many > 1 else ""
    yield f"one layer's decode attention{over} takes {quantity(view.TIME, time)}{against}{_verdict(found)}{more}"


def _verdict(found: Measurement) -> str:
    compared = view.speedup(found)
    if compared is None:
        return ""
    ratio, tie = compared
    if tie:
        return " (a tie within the spread)"
    return f" ({number(ratio)}× faster)" if ratio > 1 else f" ({number(1 / ratio)}× slower)"


def _tiles(result: TuningResult, found: Measurement, split: str) -> Markup:
    plain = view.baseline(result)
    metric = view.quality_metric(result)
    tiles = []
    size, full = view.mean(found, view.BYTES), plain.get(view.BYTES)
    if size is not None:
        under = f"of {quantity(view.BYTES, full)} in 16 bits" if full is not None else "all layers"
        head = f"KV cache ({number(full / size)}× smaller)" if full is not None and full > size else "KV cache"
        tiles.append(_tile(head, view.BYTES, size, under))
    if metric in found.metrics:
        loss = found.metrics[metric]
        under = f"mean of {loss.n} {split} prompts; worst {number(loss.worst)}"
        tiles.append(_tile(heading(metric), metric, loss.mean, under))
    time, full = view.mean(found, view.TIME), view.mean(found, view.BASELINE_TIME)
    if time is not None:
        many = view.batch(found)
        under = f"one layer, {f'{many} sequences' if many > 1 else 'one sequence'}"
        float8 = view.mean(found, view.FP8_TIME)
        for name, other in (("16-bit", full), ("fp8", float8)):
            under += f"; {name} {quantity(view.TIME, other)}" if other is not None else ""
        tiles.append(_tile(f"Decode attention{_verdict(found)}", view.TIME, time, under))
    return tag("div", join(*tiles), class_="tiles")


def _tile(head: str, metric: str, value: float, under: str) -> Markup:
    return tag(
        "div",
        join(tag("p", head, class_="head"), tag("p", data(metric, value), class_="figure"), tag("p", under)),
        class_="tile",
    )


def _configuration(config: CompressionConfig) -> Markup:
    return tag(
        "details",
        join(
            tag("summary", "Configuration"),
            tag(
                "div",
                join(
                    tag("button", "Copy", type="button", class_="copy", data_copies="configuration"),
                    tag("pre", tag("code", stage_lines(config), id="configuration")),
                ),
                class_="code",
            ),
            tag("p", f"SHA-256 {config.digest}", class_="note digest"),
        ),
        open="",
    )


def stage_lines(config: CompressionConfig) -> str:
    """The configuration as JSON with one line per stage."""
    document = config.model_dump(mode="json")
    stages = [f'    "{name}": {json.dumps(stage)}' for name, stage in document["pipeline"].items()]
    body = ",\n".join(stages)
    return f'{{\n  "schema_version": "{config.schema_version}",\n  "pipeline": {{\n{body}\n  }}\n}}'


def _alternatives(result: TuningResult) -> Markup:
    points = {point.calibration.config.digest: point for point in result.front}
    items = [
        tag("li", join(tag("b", name.capitalize()), ": ", _line(result, points[digest])))
        for name, digest in result.named.items()
        if digest in points and digest != result.recommended
    ]
    return tag("ul", join(*items), class_="others") if items else Markup("")


def _line(result: TuningResult, point: FrontPoint) -> str:
    found = view.shown(point)
    names = dict.fromkeys((view.BYTES, view.quality_metric(result), view.TIME))
    values = [quantity(name, view.mean(found, name)) for name in names if name in found.metrics]
    broken = "; breaks a constraint" if view.verdict(point) == "broken" else ""
    return f"{describe(point.calibration.config)} ({', '.join(values)}{broken})"


def _nothing(result: TuningResult, constraints: Sequence[Constraint]) -> Markup:
    stopped = result.stopped_by == "interrupt"
    parts = [tag("p", "No recommendation", class_="eyebrow")]
    parts.append(tag("h1", "Stopped before anything was confirmed" if stopped else "Nothing meets the constraints"))
    if result.reason:
        parts.append(tag("p", _sentence_case(result.reason), class_="lead"))
    miss = view.closest_miss(result, constraints)
    if miss is None:
        parts.append(tag("p", f"None of the {len(result.trials)} trials gave a measurement; the reasons are below."))
    elif not stopped:
        parts.append(tag("p", f"The closest miss is {describe(miss.config)}: {_misses(miss, constraints)}."))
        parts.append(_configuration(miss.config))
    return join(*parts)


def _misses(miss: Measurement, constraints: Sequence[Constraint]) -> str:
    broken = [
        f"{label(one.metric)} is {quantity(one.metric, view.mean(miss, one.metric))}, wanted {view.bound(one)}"
        for one in constraints
        if view.excess(one, miss) > 0
    ]
    return "; ".join(broken) or "what was measured of it breaks no constraint, but it was not confirmed"


def _sentence_case(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
