"""``report.html``: one file that needs nothing else, neither a network nor JavaScript."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from markupsafe import Markup

from autokv.evaluation.measurement import Measurement
from autokv.report import front_tables, provenance, svg, view
from autokv.report.answer import answer
from autokv.report.describe import describe
from autokv.report.environment import render
from autokv.report.format import number, quantity, sentence, title
from autokv.report.front_chart import front_chart, sources
from autokv.report.headline import first_line
from autokv.report.lines import Lines, Series
from autokv.report.plot import Figure, Plot
from autokv.report.projection import projections
from autokv.report.scale import Scale
from autokv.report.serving_rows import table
from autokv.tuning.trial import TuningResult

ROW = 84.0
"""Pixels of a row."""


def page(result: TuningResult, job: Mapping[str, Any]) -> str:
    """The whole report as one HTML document; ``job`` holds the facts that :func:`write_results` names."""
    objectives = [name for name in result.objectives if result.importance.get(name)]
    return render(
        "report.html.jinja",
        name=_name(job),
        remark=first_line(result, job),
        answer=answer(result, job),
        traffic=_traffic(job.get("serving") or {}),
        scenario=list(dict.fromkeys((job.get("scenario") or {}).get("why", ()))),
        fronts=_fronts(result, job),
        tables=(front_tables.differing(result), front_tables.every(result)) if result.front else (),
        reference=front_tables.REFERENCE if view.RATIO in view.columns(result) else "",
        objectives=objectives,
        importance=_importance(result, objectives),
        hypervolume=_hypervolume(result),
        samples=_samples(result, job),
        sentences=list(provenance.sentences(result, job)),
        blocks=list(provenance.blocks(result, job)),
        failures=view.failures(result.trials),
    )


def _name(job: Mapping[str, Any]) -> str:
    """The model's name, as far as it is known."""
    model = job.get("model") or {}
    request = job.get("request") or {}
    return str((model.get("name") if isinstance(model, Mapping) else model) or request.get("model") or "a model")


def _traffic(serving: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recommended configuration beside 16 bits and fp8; ``None`` where no trace was served."""
    comparison = serving.get("comparison")
    if not comparison:
        return None
    predicted = serving.get("predicted")
    how = view.hedge(comparison["verdict"], ["predicted"]) if predicted else "from times measured on it"
    notes = [f"simulated on {serving['device']}, {how}", *serving["notes"], *([predicted] if predicted else [])]
    return {
        "verdict": comparison["verdict"],
        "table": table(comparison),
        "basis": " ".join(map(sentence, notes)),
    }


def _fronts(result: TuningResult, job: Mapping[str, Any]) -> list[Figure]:
    named = sources(result)
    return [
        Figure(
            f"front-{found.y.metric}",
            title(found.y.metric),
            f"{view.better(found.y.metric).capitalize()}.",
            partial(front_chart, found, named),
        )
        for found in projections(result, view.limits(job))
    ]


def _importance(result: TuningResult, objectives: list[str]) -> list[tuple[str, list[float]]]:
    """Each parameter's shares of the variance of ``objectives``, the most important first."""
    names = {name for objective in objectives for name in result.importance[objective]}
    shares = [(name, [result.importance[one].get(name, 0.0) for one in objectives]) for name in names]
    return sorted(shares, key=lambda row: (-max(row[1]), row[0]))


def _hypervolume(result: TuningResult) -> Figure | None:
    if not result.hypervolume:
        return None
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
    return lines.figure("hypervolume", "Hypervolume over trials", caption)


def _samples(result: TuningResult, job: Mapping[str, Any]) -> Figure | None:
    """Every prompt of the recommendation, or else of the closest miss."""
    metric = view.quality_metric(result)
    point = view.recommended(result)
    if point is not None:
        splits = {"calibration": point.calibration, "validation": point.validation}
    else:
        splits = {"measured": view.closest_miss(result, view.limits(job))}
    found = {name: one for name, one in splits.items() if one is not None and metric in one.metrics}
    if not found:
        return None
    counts = ", ".join(f"{one.metrics[metric].n} {name}" for name, one in found.items())
    return Figure(
        "samples",
        f"{title(metric)} of {describe(next(iter(found.values())).config)}",
        f"One dot per prompt ({counts}); {view.better(metric)}. A mean hides the prompts that collapse.",
        partial(_samples_chart, found, metric),
    )


def _samples_chart(splits: Mapping[str, Measurement], metric: str, width: float, style: str) -> Markup:
    """The samples of ``splits`` over ``metric``, in a picture of ``width`` pixels."""
    found = {
        name: [sample for sample in measurement.samples if sample.get(metric) is not None]
        for name, measurement in splits.items()
    }
    scale = Scale.over(metric, [sample[metric] for samples in found.values() for sample in samples])
    rows = Scale("", False, len(splits) - 0.5, -0.5)
    plot = Plot.of(scale, rows, width, ROW * len(splits), tuple(splits))
    parts = [plot.axes(title(metric))]
    for row, (name, samples) in enumerate(found.items()):
        kind = "pick" if name == "validation" else "front"
        for sample in samples:
            at = plot.at(sample[metric], row)
            parts.append(svg.dot(at, svg.circle(at, 5, f"{kind} sample"), _said(sample, metric)))
        mean = view.mean(splits[name], metric)
        if mean is not None:
            x, y = plot.at(mean, row)
            parts.append(svg.line((x, y - 18), (x, y + 18), f"mean {kind}"))
            parts.append(svg.text(x, y - 27, f"mean {number(mean)}", "soft halo", _anchor(x, plot.width)))
    counts = " and ".join(f"{len(samples)} {name} prompts" for name, samples in found.items())
    return plot.picture(svg.join(parts), f"{title(metric)} of {counts}", style=style, role="group")


def _anchor(x: float, width: float) -> str:
    """A text near an edge stays within the plot."""
    return "start" if x < 40 else "end" if x > width - 40 else "middle"


def _said(sample: Mapping[str, Any], metric: str) -> list[str]:
    context = [f"{sample['context_tokens']:,} tokens"] if "context_tokens" in sample else []
    return [str(sample.get("id", "sample")), *context, quantity(metric, sample[metric])]
