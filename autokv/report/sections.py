"""The page below the front: which parameters mattered, and what was not measured."""

from __future__ import annotations

from autokv.report import view
from autokv.report.document import wide
from autokv.report.format import heading
from autokv.report.html import Markup, join, tag
from autokv.tuning.trial import TuningResult


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
    return wide(table, "Parameter importance")


def _bar(share: float) -> Markup:
    width = min(100.0, max(0.0, 100 * share))
    return join(
        tag("span", tag("span", "", style=f"width:{width:.1f}%"), class_="bar"),
        tag("data", f"{100 * share:.0f}%", value=repr(float(share))),
    )


def failures_section(result: TuningResult) -> Markup:
    """What was not measured, with reasons and counts; nothing where every trial was."""
    found = view.failures(result.trials)
    if not found:
        return Markup("")
    rows = [
        tag("tr", join(tag("td", str(count), class_="number"), tag("td", state), tag("td", reason, class_="reason")))
        for state, reason, count in found
    ]
    heads = [tag("th", text, scope="col") for text in ("Trials", "State", "Reason (first of its kind)")]
    table = tag("table", join(tag("thead", tag("tr", join(*heads))), tag("tbody", join(*rows))), class_="failures")
    return tag("section", join(tag("h2", "Not measured"), wide(table, "What was not measured")))
