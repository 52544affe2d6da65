"""Printed numbers, axes and the places of labels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autokv.report.format import duration, number, quantity
from autokv.report.labels import Box, place
from autokv.report.scale import Scale


@given(st.floats(min_value=1e-4, max_value=9.9e6))
def test_a_printed_number_is_within_half_a_unit_of_its_third_figure(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.005)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (None, "–"), (math.inf, "not finite"), (1234.5, "1,234"), (3.2e-7, "3.2e-07"), (-0.0123, "-0.0123")],
)
def test_numbers_at_the_edges(value: float | None, text: str) -> None:
    assert number(value) == text


def test_quantities_have_units() -> None:
    assert quantity("attention_us", 112.4) == "112 µs"
    assert quantity("compression_ratio", 6.4) == "6.40×"
    assert quantity("top1_agreement", 0.93) == "0.930"


@pytest.mark.parametrize(("seconds", "text"), [(41.6, "42 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (-1, "0 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(
    st.sampled_from(["kl_divergence", "attention_us", "nll_delta", "kv_bytes_per_token"]),
    st.lists(st.floats(min_value=-1e6, max_value=1e6, allow_subnormal=False), min_size=1, max_size=20),
)
def test_a_scale_holds_its_values_in_order_and_its_ticks_in_range(metric: str, values: list[float]) -> None:
    values = [value if abs(value) > 1e-9 else 0.0 for value in values]
    scale = Scale.over(metric, values)
    shares = [scale.fraction(value) for value in sorted(values)]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert all(scale.low * (1 - 1e-9) <= tick <= scale.high * (1 + 1e-9) or abs(tick) < 1e-9 for tick in ticks)
    assert len(ticks) <= 13


def test_labels_of_neighbours_do_not_overlap() -> None:
    wanted = [("recommended", (100.0, 100.0)), ("smallest", (104.0, 102.0)), ("fastest", (98.0, 99.0))]
    labels = place(wanted, [], 300, 300)
    boxes = []
    for label in labels:
        width = len(label.text) * 6.4
        left = {"start": 0.0, "middle": -width / 2, "end": -width}[label.anchor] + label.x + label.dx
        boxes.append(Box(left, label.y + label.dy - 7, left + width, label.y + label.dy + 7))
    assert [label.text for label in labels] == ["recommended", "smallest", "fastest"]
    assert all(a.overlap(b) == 0 for index, a in enumerate(boxes) for b in boxes[:index])
