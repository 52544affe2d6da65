"""``report.html``: one file that needs nothing else, neither a network nor JavaScript."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from autokv.report import view
from autokv.report.answer import answer
from autokv.report.describe import describe
from autokv.report.document import document, figure
from autokv.report.format import number, title
from autokv.report.front_chart import front_chart, sources
from autokv.report.front_tables import front_tables
from autokv.report.headline import first_line
from autokv.report.html import Markup, join, tag
from autokv.report.lines import Lines, Series
from autokv.report.projection import projections
from autokv.report.provenance import provenance
from autokv.report.samples import samples_chart
from autokv.report.sections import failures_section, importance_table
from autokv.report.serving_section import serving_section
from autokv.tuning.trial import TuningResult


def page(result: TuningResult, job: Mapping[str, Any]) -> str:
    """The whole report as one HTML document; ``job`` holds the facts that :func:`write_results` names."""
    chosen = first_line(result, job)
    first = join("AutoKV report · ", tag("b", _name(job)), f" · {chosen}" if chosen else "")
    body = join(
        tag("header", tag("p", first, class_="site")),
        tag("section", answer(result, job), class_="answer"),
        serving_section(job),
        _front(result, job),
        _why(result),
        _samples(result, job),
        tag("section", join(tag("h2", "What was measured where"), provenance(result, job))),
        failures_section(result),
    )
    return document(f"AutoKV: {_name(job)}", body)


def _name(job: Mapping[str, Any]) -> str:
    """The model's name, as far as it is known."""
    model = job.get("model") or {}
    request = job.get("request") or {}
    return str((model.get("name") if isinstance(model, Mapping) else model) or request.get("model") or "a model")


def _front(result: TuningResult, job: Mapping[str, Any]) -> Markup:
    named = sources(result)
    drawn = [
        figure(
            f"front-{found.y.metric}",
            title(found.y.metric),
            f"{view.better(found.y.metric).capitalize()}.",
            partial(front_chart, found, named),
        )
        for found in projections(result, view.limits(job))
    ]
    legend = (
        "Blue: the front, on validation prompts. Grey: other trials with this metric, on calibration prompts. "
        "Line: Pareto front. Hover over a point, tap it, or use Tab and the arrow keys."
    )
    parts = [tag("h2", "The front")]
    if drawn:
        parts += [tag("p", legend, class_="note"), tag("div", join(*drawn), class_="pair")]
    parts.append(front_tables(result) if result.front else tag("p", "No trial reached the front.", class_="note"))
    return tag("section", join(*parts))


def _why(result: TuningResult) -> Markup:
    parts = [
        tag("h2", "What mattered"),
        tag("p", "Share of each objective's variance over the trials that a parameter explains.", class_="note"),
        importance_table(result),
    ]
    if result.hypervolume:
        trials = list(range(1, len(result.hypervolume) + 1))
        known = sum(trial.source.startswith("literature") for trial in result.trials)
        lines = Lines(
            (Series("hypervolume", trials, list(result.hypervolume)),),
            "trials",
            "hypervolume",
            steps=True,
            whole=True,
            place=(known + 0.5, "known settings end") if 0 < known < len(trials) else None,
        )
        caption = (
            f"Share of the objective space that the front dominates; {number(result.hypervolume[-1])} at the end. "
            "Higher is better. Where the line is flat, trials found nothing better."
        )
        parts.append(tag("div", figure("hypervolume", "Hypervolume over trials", caption, lines.draw), class_="pair"))
    return tag("section", join(*parts))


def _samples(result: TuningResult, job: Mapping[str, Any]) -> Markup:
    metric = view.quality_metric(result)
    point = view.recommended(result)
    whose = "recommendation"
    if point is not None:
        both = {"calibration": point.calibration, "validation": point.validation}
        splits = {name: found for name, found in both.items() if found is not None}
    else:
        miss = view.closest_miss(result, view.limits(job))
        splits = {} if miss is None else {"measured": miss}
        whose = "closest miss"
    splits = {name: found for name, found in splits.items() if metric in found.metrics}
    if not splits:
        return Markup("")
    counts = ", ".join(f"{found.metrics[metric].n} {name}" for name, found in splits.items())
    chart = figure(
        "samples",
        f"{title(metric)} of {describe(next(iter(splits.values())).config)}",
        f"One dot per prompt ({counts}); {view.better(metric)}. A mean hides the prompts that collapse.",
        partial(samples_chart, splits, metric),
    )
    heading = tag("h2", f"Per-prompt results of the {whose}")
    return tag("section", join(heading, tag("div", chart, class_="pair")))
