"""The front as tables: what differs, beside the 16-bit cache; and, folded away, every point on both splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.changes import change
from autokv.report.describe import describe
from autokv.report.document import wide
from autokv.report.format import Unit, common_unit, heading
from autokv.report.html import Markup, cell, join, tag, unbroken
from autokv.report.near import distinct
from autokv.tuning.objectives import speedup
from autokv.tuning.trial import FrontPoint, TuningResult

REFERENCE = "PyTorch's fastest 16-bit attention"
"""What attention times are compared with."""


def front_tables(result: TuningResult) -> Markup:
    """The points that differ by more than noise, and below them all of them."""
    rows = distinct(result)
    folded = len(result.front) - len(rows)
    parts = [
        tag("p", "Scroll the table sideways for more columns.", class_="note sideways"),
        _front(result, [(point, len(like)) for point, like in rows]),
    ]
    if view.RATIO in view.columns(result):
        parts.append(tag("p", f"Attention: 1× is {REFERENCE}, which the 16-bit cache is served with.", class_="note"))
    if folded:
        many = "1 configuration differs" if folded == 1 else f"{folded} configurations differ"
        text = f"{many} from one of these only within noise and can be found in the full table."
        parts.append(tag("p", text, class_="note"))
    summary = f"All {len(result.front)} configurations, on calibration and on validation prompts"
    parts.append(tag("details", join(tag("summary", summary), _every(result)), class_="folded"))
    return join(*parts)


def _front(result: TuningResult, rows: Sequence[tuple[FrontPoint, int]]) -> Markup:
    """A row per point: two columns for each metric, in one unit."""
    columns, called, full = view.columns(result), view.roles(result), view.baseline(result)
    units = _units(columns, [view.shown(point) for point, _ in rows])
    body = []
    for point, like in rows:
        found = view.shown(point)
        pairs = [part for name in columns for part in _against(name, found, full, units[name])]
        body.append(_row(point, called, pairs, f"and {like} like it · " if like else ""))
    seconds = ["worst" if name in view.QUALITY else "vs 16-bit" for name in columns]
    splits = [part for second in seconds for part in ("mean" if second == "worst" else "value", second)]
    return wide(_table(columns, units, splits, body), "The front: what differs by more than noise")


def _against(metric: str, found: Measurement, full: Mapping[str, float], unit: Unit) -> Iterable[Markup]:
    value = view.mean(found, metric)
    yield cell(value, scale=unit.scale)
    if metric in view.QUALITY:
        yield cell(found.metrics[metric].worst if metric in found.metrics else None, scale=unit.scale)
    else:
        compared = speedup(found) if metric == view.RATIO else None
        tie = found.config.pipeline.is_identity or (compared is not None and compared[1])
        yield change(metric, value, full.get(metric), tie=tie)


def _every(result: TuningResult) -> Markup:
    """A row per point: every metric on calibration and on validation prompts."""
    columns, called = view.columns(result), view.roles(result)
    splits = [split for point in result.front for split in (point.calibration, point.validation) if split is not None]
    units = _units(columns, splits)
    body = [
        _row(
            point,
            called,
            [
                cell(view.mean(split, name), scale=units[name].scale)
                for name in columns
                for split in (point.calibration, point.validation)
            ],
            f"trial {point.trial}, {point.source} · ",
        )
        for point in view.by_size(result.front)
    ]
    table = _table(columns, units, ["calibration", "validation"] * len(columns), body)
    return wide(table, "The front: every configuration on both splits")


def _table(columns: Sequence[str], units: Mapping[str, Unit], splits: Sequence[str], body: Sequence[Markup]) -> Markup:
    heads = [tag("th", "Configuration", rowspan="2", scope="col")]
    heads += [tag("th", f"{heading(name)} ({units[name].name})", colspan="2", scope="colgroup") for name in columns]
    heads.append(tag("th", "Limits", rowspan="2", scope="col"))
    under = [tag("th", split, scope="col") for split in splits]
    return tag(
        "table",
        join(
            tag("thead", join(tag("tr", join(*heads)), tag("tr", join(*under), class_="splits"))),
            tag("tbody", join(*body)),
        ),
        class_="front",
    )


def _row(point: FrontPoint, called: Mapping[str, tuple[str, ...]], values: Iterable[Markup], origin: str) -> Markup:
    digest = point.calibration.config.digest
    marks = [tag("span", role, class_=f"role {role}") for role in called.get(digest, ())]
    name = join(
        tag("span", unbroken(describe(point.calibration.config))),
        *marks,
        tag("span", f"{origin}{digest[:12]}", class_="small", title=digest),
    )
    verdict = view.verdict(point)
    cells = [
        tag("th", name, scope="row"),
        *(tag("td", value, class_="number") for value in values),
        tag("td", verdict, class_=verdict.replace(" ", "-")),
    ]
    style = {"class_": "chosen"} if "recommended" in called.get(digest, ()) else {}
    return tag("tr", join(*cells), data_digest=digest, **style)


def _units(columns: Iterable[str], measured: Sequence[Measurement]) -> dict[str, Unit]:
    return {name: common_unit(name, [view.mean(one, name) for one in measured]) for name in columns}
