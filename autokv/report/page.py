"""``report.html``: one file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autokv.report import charts, view
from autokv.report.answer import answer
from autokv.report.describe import describe
from autokv.report.document import document, place
from autokv.report.format import title
from autokv.report.html import Markup, join, tag
from autokv.report.parts import Figure
from autokv.report.projection import projections
from autokv.report.sections import facts, failure_table, front_table, importance_table
from autokv.report.serving_section import serving_section
from autokv.tuning.trial import TuningResult


def page(result: TuningResult, job: Mapping[str, Any]) -> str:
    """The whole report as one HTML document; ``job`` holds the facts that :func:`write_results` names."""
    figures: dict[str, Figure] = {}
    body = join(
        tag("header", tag("p", join("AutoKV report · ", tag("b", _name(job))), class_="site")),
        tag("section", answer(result, job), class_="answer"),
        serving_section(job),
        _front(result, job, figures),
        _why(result, figures),
        _samples(result, job, figures),
        tag("section", join(tag("h2", "What was measured where"), facts(result, job))),
        tag("section", join(tag("h2", "Not measured"), failure_table(result))),
    )
    return document(f"AutoKV: {_name(job)}", body, figures)


def _name(job: Mapping[str, Any]) -> str:
    """The model's name, as far as it is known."""
    model = job.get("model") or {}
    request = job.get("request") or {}
    return str((model.get("name") if isinstance(model, Mapping) else model) or request.get("model") or "a model")


def _front(result: TuningResult, job: Mapping[str, Any], figures: dict[str, Figure]) -> Markup:
    sources = charts.sources(result)
    drawn = [
        place(
            figures,
            f"front-{found.y.metric}",
            charts.projection_chart(found, sources),
            title(found.y.metric),
            f"{view.better(found.y.metric).capitalize()}.",
        )
        for found in projections(result, view.limits(job))
    ]
    legend = (
        "Every dot is a configuration that was run. Blue is the front, at the values that the validation prompts gave; "
        "grey are the other trials, on calibration prompts. "
        "The line joins what nothing beats in the picture. Touch a dot for its configuration."
    )
    parts = [tag("h2", "The front")]
    if drawn:
        parts += [tag("p", legend, class_="note"), tag("div", join(*drawn), class_="pair")]
    if result.front:
        parts += [
            tag("noscript", tag("p", "The charts need JavaScript; this table has every value of the front.")),
            front_table(result),
        ]
    else:
        parts.append(tag("p", "No trial reached the front.", class_="note"))
    return tag("section", join(*parts))


def _why(result: TuningResult, figures: dict[str, Figure]) -> Markup:
    parts = [
        tag("h2", "What mattered"),
        tag("p", "Share of each objective's variance over the trials that a parameter explains.", class_="note"),
        importance_table(result),
    ]
    if result.hypervolume:
        parts.append(
            place(
                figures,
                "hypervolume",
                charts.hypervolume_chart(result),
                "Hypervolume over trials (share of the space between reference and ideal point)",
                "Higher is better; where the line is flat, more trials found nothing new.",
            )
        )
    return tag("section", join(*parts))


def _samples(result: TuningResult, job: Mapping[str, Any], figures: dict[str, Figure]) -> Markup:
    metric = view.quality_metric(result)
    point = view.recommended(result)
    splits = charts.confirmed(point)
    heading = "Every sample of the recommended one"
    if not splits:
        miss = view.closest_miss(result, view.limits(job))
        splits = {"measured": miss} if miss is not None else {}
        heading = "Every sample of the closest miss"
    splits = {name: found for name, found in splits.items() if metric in found.metrics}
    if not splits:
        return Markup("")
    counts = ", ".join(f"{found.metrics[metric].n} {name}" for name, found in splits.items())
    name = describe(next(iter(splits.values())).config)
    chart = place(
        figures,
        "samples",
        charts.samples_chart(splits, metric),
        f"{title(metric)} of {name}",
        f"One dot per prompt ({counts}); {view.better(metric)}. A mean hides the prompts that collapse.",
    )
    return tag("section", join(tag("h2", heading), chart))
