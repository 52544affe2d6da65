"""Pictures: labels that collide nowhere, dots for the keyboard, and everything there without JavaScript."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autokv.report.environment import DARK, LIGHT
from autokv.report.front_chart import HEIGHT
from autokv.report.labels import Box, Label, place
from autokv.report.lines import Lines, Series
from autokv.report.page import page
from autokv.report.plot import SIZES, Plot
from autokv.report.projection import projections
from autokv.report.view import FULL
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import TuningResult

if TYPE_CHECKING:
    from tests.report.conftest import Reader

LIMITS = (Constraint("kl_divergence", "max", 0.08), Constraint("kv_bytes_per_token", "max", 12_000))
WIDTHS = (375, 768, 1280)


def crossings(labels: list[Label]) -> list[str]:
    """Texts that another's leader runs through for more than a pixel, walked in small steps."""
    found = []
    for one, other in itertools.permutations(labels, 2):
        if other.leader is not None:
            (x, y), (right, below) = other.leader
            way = [(x + (right - x) * step / 400, y + (below - y) * step / 400) for step in range(401)]
            inside = sum(one.box.left < a < one.box.right and one.box.top < b < one.box.bottom for a, b in way)
            if inside * math.hypot(right - x, below - y) / 400 > 1.5:
                found.append(f"{other.text} through {one.text}")
    return found


def collisions(labels: list[Label], others: list[Box]) -> list[str]:
    """Texts that lie over another text or over one of ``others`` by more than a square pixel."""
    pairs = itertools.combinations(labels, 2)
    found = [f"{one.text}/{other.text}" for one, other in pairs if one.box.overlap(other.box) > 1]
    return found + [one.text for one in labels if any(one.box.overlap(other) > 1 for other in others)]


@pytest.mark.parametrize("width", SIZES.values())
@pytest.mark.parametrize("kind", ["with the 16-bit cache on the front", "beside it", "served"])
def test_labels_lie_by_their_own_dots_and_over_nothing(
    result: TuningResult, decided: TuningResult, kind: str, width: float
) -> None:
    if kind == "beside it":
        compressed = [point for point in result.front if not point.calibration.config.pipeline.is_identity]
        result = dataclasses.replace(result, front=compressed)
    drawn = projections(decided if kind == "served" else result, LIMITS)
    assert len(drawn) == (3 if kind == "served" else 2)
    for projection in drawn:
        plot = Plot.of(projection.x, projection.y, width, HEIGHT)
        labels = projection.labels(plot.width, plot.height)
        dots = [(mark.roles, plot.at(mark.x, mark.y)) for mark in projection.front if mark.roles]
        dots += [((FULL,), plot.at(*projection.baseline))] if projection.baseline else []
        assert {label.text for label in labels} == {", ".join(roles) for roles, _ in dots}
        assert any("recommended" in label.text for label in labels)
        assert any(FULL in label.text for label in labels)
        named = [Box.around(*at, 10, 10) for _, at in dots]
        assert collisions(labels, [*named, *projection.bounds(plot.width, plot.height)]) == []
        assert crossings(labels) == []
        for label in labels:
            assert (label.x, label.y) in [at for roles, at in dots if ", ".join(roles) == label.text]
            if label.leader is not None:
                ink = Box(label.box.left, label.box.top + 1, label.box.right, label.box.bottom - 1)
                assert ink.crossed(*label.leader) == 0, "a leader ends before the text"
            near = Box.around(label.x, label.y, 24, 24).overlap(label.box)
            assert near or label.leader is not None
            assert label.box.outside(plot.width + 18, plot.height) == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 280), st.floats(0, 250)), min_size=1, max_size=6))
@example([(0.0, 0.0), (0.0, 0.0), (8.0, 0.0)])
@example([(11.0, 0.0), (19.0, 83.0), (19.0, 0.0), (2.0, 199.0)])
def test_labels_of_dots_anywhere_never_collide(points: list[tuple[float, float]]) -> None:
    names = ("recommended", "fastest", "smallest", "knee", "safest", "16-bit")
    wanted = list(zip(names, points, strict=False))
    labels = place(wanted, [], 280, 250, [Box.around(*point, 14, 14) for point in points])
    assert [label.text for label in labels] == [name for name, _ in wanted]
    assert collisions(labels, []) == []
    assert crossings(labels) == []


def test_a_dot_that_lies_nowhere_has_no_label_and_takes_no_others() -> None:
    wanted = [("here", (100.0, 100.0)), ("nowhere", (math.inf, 3.0)), ("there", (200.0, 100.0))]
    assert [label.text for label in place(wanted, [], 280, 250)] == ["here", "there"]
    assert place([], [], 280, 250) == []


def test_every_dot_can_be_focused_and_says_what_it_is(
    result: TuningResult, job: dict[str, Any], read: Callable[[str], Reader]
) -> None:
    reader = read(page(result, job))
    dots = reader.classed("dot")
    samples = 12
    measured = sum(trial.measurement is not None for trial in result.trials)
    assert len(dots) == 2 * (2 * measured + samples)
    assert all(dot["tabindex"] == "0" and dot["role"] == "img" and len(dot["aria-label"] or "") > 10 for dot in dots)
    titles = [text for tag, text in reader.texts if tag == "title"]
    assert {dot["aria-label"] for dot in dots} <= {title.replace("\n", "; ") for title in titles}
    for point in result.front:
        digest = point.calibration.config.digest[:12]
        assert sum(digest in (dot["aria-label"] or "") for dot in dots) == 4


def test_the_picture_is_there_without_script(
    result: TuningResult, job: dict[str, Any], read: Callable[[str], Reader]
) -> None:
    document = re.sub(r"<script>.*?</script>", "", page(result, job), flags=re.DOTALL)
    reader = read(document)
    svgs = [found for tag, found in reader.elements if tag == "svg"]
    assert len(svgs) == 2 * 4
    assert all(found["aria-label"] and found["role"] in ("img", "group") for found in svgs)
    assert {style for found in svgs for style in (found["class"] or "").split()} == {"chart", *SIZES}
    assert len(reader.classed("pick")) == 2 * 2 + 2 * 6 + 2  # two diamonds, six validation dots, a mean
    assert "noscript" not in [tag for tag, _ in reader.elements]


def test_lines_say_their_values_where_a_pointer_asks() -> None:
    lines = Lines(
        (Series("a", [0, 1, 2, 3], [5, 7, 6, 8]), Series("b", [0, 1], [1, 2])), "hours", "requests", steps=True
    )
    drawn = lines.draw(340, "narrow")
    titles = re.findall(r"<title>hours: ([\d.]+)\n(.*?)</title>", drawn, re.DOTALL)
    assert len(titles) > 30
    for hour, values in titles:
        expected = [f"a: {[5, 7, 6, 8][int(float(hour))]:.2f}"]
        expected += [f"b: {[1, 2][int(float(hour))]:.2f}"] if float(hour) <= 1 else []
        assert values.split("\n") == expected, hour
    assert "a: 5.00 to 8.00" in lines.summary
    assert drawn.count('class="line ') == 2
    assert re.findall(r'class="line (\w+ \w+)"', drawn) == ["pick dashed", "front solid"]


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio as WCAG 2.2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_marks_stand_out_from_their_ground(palette: dict[str, str]) -> None:
    for ground in ("ground", "card", "wash"):
        for ink in ("ink", "strong", "soft", "pick-ink", "front"):
            assert contrast(palette[ink], palette[ground]) >= 4.5, (ink, ground)
    assert all(contrast(palette[mark], palette["ground"]) >= 3 for mark in ("front", "pick"))


TEXTS = """(page) => {
  const found = { scroll: page.document.documentElement.scrollWidth, shown: [], over: [], small: [] };
  for (const figure of page.document.querySelectorAll("figure")) {
    const charts = [...figure.querySelectorAll(".chart:not(.key)")].filter((one) => one.getBoundingClientRect().width);
    found.shown.push(charts.length);
    const texts = charts.flatMap((chart) => [...chart.querySelectorAll("text")]);
    const boxes = texts.map((text) => text.getBoundingClientRect());
    for (const text of texts) if (parseFloat(page.getComputedStyle(text).fontSize) * text.getScreenCTM().a < 10) {
      found.small.push(text.textContent);
    }
    for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
      const wide = Math.min(boxes[i].right, boxes[j].right) - Math.max(boxes[i].left, boxes[j].left);
      const high = Math.min(boxes[i].bottom, boxes[j].bottom) - Math.max(boxes[i].top, boxes[j].top);
      if (wide > 1 && high > 3) found.over.push([texts[i].textContent, texts[j].textContent]);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser_no_text_of_a_picture_lies_over_another(
    decided: TuningResult, job: dict[str, Any], browse: Callable[[str, int, str], Any], width: int
) -> None:
    found = browse(page(decided, job), width, TEXTS)
    assert found == {"scroll": width, "shown": [1] * 5, "over": [], "small": []}


HINT = """(page) => {
  const hint = page.document.querySelector(".sideways"), table = page.document.querySelector("div.wide");
  return {
    hint: page.getComputedStyle(hint).display !== "none", beyond: table.scrollWidth > table.clientWidth,
    shadow: page.getComputedStyle(table).backgroundAttachment.includes("local"),
  };
}"""


@pytest.mark.parametrize(("width", "narrow"), [(375, True), (1280, False)])
def test_in_a_browser_a_table_that_scrolls_says_so(
    decided: TuningResult, job: dict[str, Any], browse: Callable[[str, int, str], Any], width: int, narrow: bool
) -> None:
    result = browse(page(decided, job), width, HINT)
    assert result["hint"] == narrow
    assert result["shadow"]
    assert result["beyond"] or not narrow


KEYS = """(page) => {
  const chart = [...page.document.querySelectorAll(".chart")].find((one) => one.getBoundingClientRect().width);
  const stops = [...chart.querySelectorAll(".dot")].filter((dot) => dot.tabIndex === 0);
  const press = (key) => page.document.activeElement.dispatchEvent(
    new page.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  stops[0].focus();
  const seen = new Set([page.document.activeElement]);
  for (let i = 0; i < 500; i++) { press("ArrowRight"); seen.add(page.document.activeElement); }
  return {
    stops: stops.length, seen: seen.size, dots: chart.querySelectorAll(".dot").length,
    tip: page.document.querySelector(".tip").textContent, label: page.document.activeElement.getAttribute("aria-label"),
  };
}"""


def test_in_a_browser_the_arrow_keys_reach_every_dot(
    result: TuningResult, job: dict[str, Any], browse: Callable[[str, int, str], Any]
) -> None:
    found = browse(page(result, job), 800, KEYS)
    assert found["stops"] == 1
    assert found["seen"] == found["dots"] > 40
    assert found["tip"].replace("\n", "; ") == found["label"]


PRINT = """(page) => {
  page.dispatchEvent(new page.Event("beforeprint"));
  const rules = [...page.document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  const paper = rules.filter((rule) => rule.media && rule.media.mediaText === "print");
  const printed = paper.flatMap((rule) => [...rule.cssRules]);
  const matched = (node, name) => printed.filter((rule) => rule.selectorText && node.matches(rule.selectorText))
    .map((rule) => rule.style.getPropertyValue(name)).filter(Boolean);
  const one = (selector) => page.document.querySelector(selector);
  return {
    open: [...page.document.querySelectorAll("details")].every((folded) => folded.open),
    bar: matched(one(".bar span"), "print-color-adjust"), chosen: matched(one("tr.chosen td"), "print-color-adjust"),
    row: matched(one("tbody tr"), "break-inside"), table: matched(one("div.wide"), "overflow"),
  };
}"""


def test_on_paper_bars_keep_their_ink_and_rows_stay_whole(
    result: TuningResult, job: dict[str, Any], browse: Callable[[str, int, str], Any]
) -> None:
    found = browse(page(result, job), 800, PRINT)
    expected = {"bar": ["exact"], "chosen": ["exact"], "row": ["avoid"], "table": ["visible"]}
    assert found == {"open": True, **expected}
