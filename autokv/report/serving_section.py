"""How a configuration changes serving the workload, and which scenario decided the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autokv.report import view
from autokv.report.document import wide
from autokv.report.html import Markup, join, tag
from autokv.report.serving_rows import Row, rows, sentence


def serving_section(job: Mapping[str, Any]) -> Markup:
    """The recommended configuration beside 16 bits and fp8, and the scenario; nothing where no trace was served."""
    serving, scenario = job.get("serving") or {}, job.get("scenario") or {}
    comparison = serving.get("comparison")
    parts = []
    if comparison:
        parts += [
            tag("h2", "Effect on your traffic"),
            tag("p", sentence(comparison["verdict"])),
            comparison_table(comparison),
            tag("p", _basis(serving), class_="note"),
        ]
    if scenario:
        parts += [
            tag("h2" if not parts else "h3", "The scenario"),
            tag("ul", join(*(tag("li", sentence(why)) for why in dict.fromkeys(scenario["why"]))), class_="note"),
        ]
    return tag("section", join(*parts)) if parts else Markup("")


def comparison_table(comparison: Mapping[str, Any]) -> Markup:
    """A row per figure of :meth:`~autokv.serving.comparison.Comparison.to_dict`, the first engine's with its change."""
    names = [str(run["name"]) for run in comparison["runs"]]
    full = names.index(view.FULL) if view.FULL in names[1:] else None
    first = tag("span", f"vs {view.FULL}", class_="change") if full is not None else ""
    heads = [tag("th", join(names[0], " ", first) if first else names[0], class_="number", scope="col")]
    heads += [tag("th", name, class_="number", scope="col") for name in names[1:]]
    lines = [_line(row, full) for row in rows(comparison)]
    head = tag("thead", tag("tr", join(tag("td", ""), *heads)))
    return wide(tag("table", join(head, tag("tbody", join(*lines))), class_="comparison"), "Figures of every server")


def _line(row: Row, full: int | None) -> Markup:
    own, *others = row.texts
    changed = "" if full is None else tag("span", row.change(full), class_="change")
    cells = [tag("th", row.title, scope="row"), tag("td", join(own, " ", changed), class_="number")]
    return tag("tr", join(*cells, *(tag("td", text, class_="number") for text in others)))


def _basis(serving: Mapping[str, Any]) -> str:
    predicted = serving.get("predicted")
    how = view.hedge(serving["comparison"]["verdict"], ["predicted"]) if predicted else "from times measured on it"
    notes = [f"simulated on {serving['device']}, {how}", *serving["notes"], *([predicted] if predicted else [])]
    return " ".join(sentence(note) for note in notes)
