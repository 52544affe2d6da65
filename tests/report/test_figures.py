"""The static picture, and what both pictures are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from autokv.evaluation.measurement import Measurement
from autokv.report.front_chart import front_svg, picture
from autokv.report.projection import Projection, projections
from autokv.report.scale import Scale
from autokv.tuning.objectives import Constraint
from autokv.tuning.trial import TuningResult

if TYPE_CHECKING:
    from tests.report.conftest import Reader

SVG = "{http://www.w3.org/2000/svg}"


def test_the_svg_is_well_formed_small_and_draws_each_point(result: TuningResult) -> None:
    text = front_svg(result, [Constraint("kl_divergence", "max", 0.08)])
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    assert len(text) < 80_000
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "var(" not in text
    panels = root.findall(f"{SVG}g")
    assert len(panels) == 2
    for panel in panels:
        dots = panel.findall(f"{SVG}g[@class='dot']")
        assert all(dot.get("tabindex") == "0" and dot.get("aria-label") for dot in dots)
        assert sum(dot.find(f"{SVG}path[@class='pick']") is not None for dot in dots) == 1
        assert sum(dot.find(f"{SVG}circle[@class='front']") is not None for dot in dots) == len(result.front) - 1
        written = [element.text for element in panel.findall(f"{SVG}text")]
        assert {"recommended", "smallest", "fastest"} <= set(written)
    assert any("at most 0.08" in (element.text or "") for element in panels[0])


def test_hostile_names_of_judged_files_stay_text(result: TuningResult, read: Callable[[str], Reader]) -> None:
    hostile = "{{ 7*7 }}{% raw %}</script><img src=x onerror=alert(1)>\"'&"
    judged = [(hostile, point.calibration) for point in result.front[:2]]
    reader = read(picture(judged, ".html"))
    assert {tag for tag, text in reader.texts if hostile in text} >= {"li", "title"}
    assert not {"img", "script"} & {tag for tag, _ in reader.elements}
    ElementTree.fromstring(picture(judged, ".svg"))  # noqa: S314 - our own text


def test_what_decided_is_drawn_beside_the_quality(decided: TuningResult) -> None:
    assert [one.y.metric for one in projections(decided)] == [
        "kl_divergence",
        "goodput_requests_per_s",
        "attention_ratio",
    ]
    written = [one.text for one in ElementTree.fromstring(front_svg(decided)).iter(f"{SVG}text")]  # noqa: S314
    assert {"KL divergence (nats/token)", "Goodput (requests/s)", "higher is better"} <= set(written)


def test_the_line_joins_exactly_what_nothing_beats(result: TuningResult) -> None:
    for projection in projections(result):
        points = [(mark.x, mark.y) for mark in projection.front]
        unbeaten = {(x, y) for x, y in points if not any((a <= x and b < y) or (a < x and b <= y) for a, b in points)}
        assert set(projection.line) == unbeaten
        assert list(projection.line) == sorted(projection.line)


def test_the_line_follows_a_metric_that_is_to_be_high(result: TuningResult) -> None:
    projection = Projection.of(result, "kv_bytes_per_token", "top1_agreement")
    assert projection is not None
    heights = [y for _, y in projection.line]
    assert heights == sorted(heights)
    assert max(mark.y for mark in projection.front) == heights[-1]


def test_front_points_stand_at_validation_values(result: TuningResult) -> None:
    projection = Projection.of(result, "kv_bytes_per_token", "kl_divergence")
    assert projection is not None
    expected = {point.validation.value("kl_divergence") for point in result.front if point.validation}
    assert {mark.y for mark in projection.front} == expected


def test_the_baseline_is_the_16_bit_cache_by_definition_or_as_it_was_judged(decided: TuningResult) -> None:
    compressed = [point for point in decided.front if not point.calibration.config.pipeline.is_identity]
    quality, goodput, time = projections(dataclasses.replace(decided, front=compressed))
    size = quality.baseline and quality.baseline[0]
    assert abs((size or 0) / 23040 - 1) < 0.02
    assert quality.baseline == (size, 0.0)
    assert goodput.baseline == (size, 30_000 / 23040)
    assert time.baseline == (size, 1.0)
    assert [one.baseline for one in projections(decided)] == [None] * 3  # it is one of the front


def test_the_16_bit_cache_is_within_the_axes_where_it_is_one_of_the_front(decided: TuningResult) -> None:
    quality, *others = projections(decided)
    assert any(mark.measurement.config.pipeline.is_identity for mark in quality.front)
    for projection in others:
        plain = next(mark for mark in projection.front if mark.measurement.config.pipeline.is_identity)
        assert projection.y.low < plain.y < projection.y.high
    # A third configuration that is twice as slow: the axis still reaches down to the 16-bit cache's 1.
    slow = [point for point in decided.front if point.calibration.config.pipeline.is_identity or point.trial % 2]
    rows = [
        dataclasses.replace(
            point,
            validation=Measurement.of_samples(
                point.calibration.config, [{**row, "attention_us": 400.0} for row in point.calibration.samples]
            ),
        )
        for point in slow
    ]
    time = projections(dataclasses.replace(decided, front=rows, trials=[]))[-1]
    assert time.y.metric == "attention_ratio"
    assert time.y.low <= 1.0 < time.y.high


def test_figures_that_hardly_differ_do_not_fill_an_axis() -> None:
    scale = Scale.over("sustained_requests_per_s", [311.0, 312.0, 314.0])
    assert scale.fraction(314.0) - scale.fraction(311.0) < 0.15
