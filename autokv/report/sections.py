"""The page below the answer: the front's table, importance, what failed and what was measured where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.format import duration, heading, title, unit
from autokv.report.html import Markup, cell, join, tag, unbroken
from autokv.tuning.trial import FrontPoint, TuningResult

FACTS = {
    "model": "Model",
    "hardware": "Device",
    "workload": "Workload",
    "contexts": "Contexts and samples",
    "baselines": "Baselines",
    "request": "Request",
    "versions": "Versions",
}
"""The blocks of a job's facts and their headings, in the page's order."""
LONG = 12
"""A list of more values than this is shortened."""


def front_table(result: TuningResult) -> Markup:
    """A row per front point: every objective on calibration and on validation prompts."""
    measured = {name for point in result.front for name in point.calibration.metrics}
    columns = [name for name in dict.fromkeys((*result.objectives, view.BYTES)) if name in measured]
    called = view.roles(result)
    heads = [tag("th", "Configuration", rowspan="2", scope="col")]
    heads += [tag("th", title(name), colspan="2", scope="colgroup") for name in columns]
    heads.append(tag("th", "Smaller than 16-bit (×)", rowspan="2", scope="col", class_="number"))
    heads.append(tag("th", "Limits", rowspan="2", scope="col"))
    splits = [tag("th", split, scope="col") for _ in columns for split in ("calibration", "validation")]
    rows = [_front_row(point, columns, called) for point in view.by_size(result.front)]
    return tag(
        "div",
        tag(
            "table",
            join(
                tag("thead", join(tag("tr", join(*heads)), tag("tr", join(*splits), class_="splits"))),
                tag("tbody", join(*rows)),
            ),
            class_="front",
        ),
        class_="wide",
        tabindex="0",
        role="region",
        aria_label="The front, every point",
    )


def _front_row(point: FrontPoint, columns: Iterable[str], called: Mapping[str, tuple[str, ...]]) -> Markup:
    digest = point.calibration.config.digest
    marks = [tag("span", role, class_=f"role {role}") for role in called.get(digest, ())]
    name = join(
        tag("span", unbroken(describe(point.calibration.config))),
        *marks,
        tag("span", f"trial {point.trial}, {point.source} · {digest[:12]}", class_="small", title=digest),
    )
    values = [
        tag("td", cell(view.mean(split, column)), class_="number")
        for column in columns
        for split in (point.calibration, point.validation)
    ]
    values.append(tag("td", cell(view.mean(view.shown(point), "compression_ratio")), class_="number"))
    verdict = view.verdict(point)
    cells = [tag("th", name, scope="row"), *values, tag("td", verdict, class_=verdict)]
    style = {"class_": "pick"} if "recommended" in called.get(digest, ()) else {}
    return tag("tr", join(*cells), data_digest=digest, **style)


def importance_table(result: TuningResult) -> Markup:
    """A row per parameter and a column of bars per objective, the most important first."""
    objectives = [name for name in result.objectives if result.importance.get(name)]
    if not objectives:
        return tag("p", "Too few finished trials to tell.", class_="note")
    parameters = {name for objective in objectives for name in result.importance[objective]}
    shares = {name: [result.importance[one].get(name, 0.0) for one in objectives] for name in parameters}
    heads = [tag("th", "Parameter", scope="col"), *(tag("th", heading(name), scope="col") for name in objectives)]
    rows = [
        tag("tr", join(tag("th", tag("code", name), scope="row"), *(tag("td", _bar(share)) for share in shares[name])))
        for name in sorted(parameters, key=lambda name: (-max(shares[name]), name))
    ]
    table = tag("table", join(tag("thead", tag("tr", join(*heads))), tag("tbody", join(*rows))), class_="importance")
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label="Parameter importance")


def _bar(share: float) -> Markup:
    width = min(100.0, max(0.0, 100 * share))
    return join(
        tag("span", tag("span", "", style=f"width:{width:.1f}%"), class_="bar"),
        tag("data", f"{100 * share:.0f}%", value=repr(float(share))),
    )


def failure_table(result: TuningResult) -> Markup:
    """What was not measured, with reasons and counts."""
    found = view.failures(result.trials)
    if not found:
        return tag("p", f"All {len(result.trials)} trials ran.", class_="note")
    rows = [
        tag("tr", join(tag("td", str(count), class_="number"), tag("td", state), tag("td", reason, class_="reason")))
        for state, reason, count in found
    ]
    heads = [tag("th", text, scope="col") for text in ("Trials", "State", "Reason (first of its kind)")]
    table = tag("table", join(tag("thead", tag("tr", join(*heads))), tag("tbody", join(*rows))), class_="failures")
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label="Failures")


def facts(result: TuningResult, job: Mapping[str, Any]) -> Markup:
    """What was measured, on what, and when."""
    run: dict[str, Any] = {"job": job.get("id"), "finished": job.get("finished"), "stopped by": result.stopped_by}
    run["trials"] = sum(trial.state != "infeasible" for trial in result.trials)
    if job.get("seconds") is not None:
        run["duration"] = duration(float(job["seconds"]))
    run |= _sample_counts(result)
    blocks = [_facts_block("Run", run)]
    blocks += [_facts_block(heading, job[name]) for name, heading in FACTS.items() if job.get(name)]
    return tag("div", join(*blocks), class_="facts")


def _sample_counts(result: TuningResult) -> dict[str, str]:
    splits: dict[str, list[Measurement]] = {
        "calibration prompts": [found for _, found in view.measured(result.trials)],
        "validation prompts": [point.validation for point in result.front if point.validation is not None],
    }
    counts = {}
    for name, found in splits.items():
        if found:
            lengths = sorted({sample["context_tokens"] for sample in found[0].samples if "context_tokens" in sample})
            context = f" of {lengths[0]:,} to {lengths[-1]:,} context tokens" if lengths else ""
            counts[name] = f"{len(found[0].samples)}{context}"
    return counts


def _facts_block(heading: str, block: object) -> Markup:
    items = [
        join(tag("dt", key.replace("_", " ")), tag("dd", value))
        for key, value in flatten(block)
        if value not in ("", "None")
    ]
    return tag("section", join(tag("h3", heading), tag("dl", join(*items))))


def flatten(block: object, path: str = "") -> Iterable[tuple[str, str]]:
    """The leaves of nested mappings as ``a b c`` and a printed value; a long list is shortened, and says so."""
    if isinstance(block, Mapping):
        for key, value in block.items():
            yield from flatten(value, f"{path} {key}".strip())
    elif isinstance(block, list | tuple | set | frozenset):
        values = [_plain(value) for value in block]
        more = f", … ({len(values)} in all)" if len(values) > LONG else ""
        yield path or "values", ", ".join(values[:LONG]) + more
    else:
        yield path or "value", _measured(path, block)


def _measured(name: str, value: object) -> str:
    mark = unit(name) if name in METRICS else ""
    return f"{_plain(value)} {mark}".strip()


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
