"""What a configuration buys on the workload, and which scenario decided the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autokv.report.html import Markup, join, tag
from autokv.report.serving_rows import rows, sentence


def serving_section(job: Mapping[str, Any]) -> Markup:
    """The recommended configuration beside 16 bits and fp8, and the scenario; nothing where no trace was served."""
    serving, scenario = job.get("serving") or {}, job.get("scenario") or {}
    comparison = serving.get("comparison")
    parts = []
    if comparison:
        parts += [
            tag("h2", "What it buys on this trace"),
            tag("p", sentence(comparison["verdict"])),
            comparison_table(comparison),
            tag("p", _basis(serving), class_="note"),
        ]
    if scenario:
        parts += [
            tag("h2" if not parts else "h3", "The scenario"),
            tag("ul", join(*(tag("li", sentence(why)) for why in scenario["why"])), class_="note"),
        ]
    return tag("section", join(*parts)) if parts else Markup("")


def comparison_table(comparison: Mapping[str, Any]) -> Markup:
    """A column per server and a row per figure, of :meth:`autokv.serving.comparison.Comparison.to_dict`."""
    names = [str(run["name"]) for run in comparison["runs"]]
    head = join(tag("th", ""), *(tag("th", name, class_="number", scope="col") for name in names))
    lines = [
        tag(
            "tr",
            join(tag("th", row.title, scope="row"), *(tag("td", text, class_="number") for text in row.texts)),
        )
        for row in rows(comparison)
    ]
    table = tag("table", join(tag("thead", tag("tr", head)), tag("tbody", join(*lines))))
    return tag("div", table, class_="wide")


def _basis(serving: Mapping[str, Any]) -> str:
    predicted = serving.get("predicted")
    notes = [
        f"simulated on {serving['device']}" + ("" if predicted else " from times measured there"),
        *serving["notes"],
    ]
    if predicted:
        notes.append(predicted)
    return " ".join(sentence(note) for note in notes)
