"""The page of a trace: complete, self-contained, deaf to hostile names, and drawn by a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from autokv.report import trace_page, trace_rows
from autokv.report.format import span
from autokv.report.scale import Scale
from autokv.workload import PrefixBlocks, RejectedRows, WorkloadTrace, generate, statistics_of
from autokv.workload.series import over_length, over_time
from autokv.workload.synthesis import Lengths, Poisson

if TYPE_CHECKING:
    from tests.report.conftest import Reader

HOSTILE = "{{ 7*7 }}{% raw %}</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def rich_trace() -> WorkloadTrace:
    """A trace with everything that a trace may have."""
    trace = generate(
        requests=500, arrivals=Poisson(2.0), input_tokens=Lengths(700, 2000), output_tokens=Lengths(130, 450)
    )
    number = np.arange(500)
    return replace(
        trace,
        name=HOSTILE,
        rejected=RejectedRows(7, (3, 4, 5, 6, 7), HOSTILE),
        prefixes=PrefixBlocks(512, np.arange(501) * 2, np.stack([number % 5, number + 5], axis=1).ravel()),
        session=number // 4,
        turn=number % 4 + 1,
    )


def page(trace: WorkloadTrace) -> str:
    return trace_page.page(
        statistics_of(trace), over_length(trace), over_time(trace), notes=[HOSTILE], scenario=[f"edge: {HOSTILE}"]
    )


def figures(document: str) -> set[str]:
    return set(re.findall(r'<figure id="figure-(\w+)">', document))


def test_everything_is_there() -> None:
    document = page(rich_trace())
    assert set(figures(document)) == {"requests", "tokens", "flight", "lengths", "reuse"}
    for expected in ("7 left out (lines 3, 4, 5, 6, 7, …)", "prefix reuse", "sessions", "Scenario", "counts in 10 s"):
        assert expected in document


def test_hostile_names_stay_text_and_nothing_leaves_the_page(read: Callable[[str], Reader]) -> None:
    document = page(rich_trace())
    texts = read(document).texts
    assert {tag for tag, text in texts if HOSTILE in text} == {"title", "b", "h1", "dd", "p"}
    assert document.count("<script>") == 1
    assert "<img" not in document
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", document)


def test_what_a_trace_lacks_has_no_chart() -> None:
    trace = rich_trace()
    bare = WorkloadTrace("bare", "test", np.zeros(500), trace.input_tokens, trace.output_tokens)
    assert set(figures(page(bare))) == {"lengths"}
    assert trace_rows.facts(statistics_of(bare)) == {"format": "test", "requests": "500", "arrivals": "none"}


def told(document: str, figure: str, x: str) -> list[tuple[float, float]]:
    """What the narrow picture of a figure tells a pointer of its first line."""
    part = document.split(f'id="figure-{figure}"')[1].split("</svg>")[0]
    found = re.findall(rf"<title>{x}: ([\d.,]+)\n[^:]*: ([\d.,]+)", part)
    return [(float(at.replace(",", "")), float(value.replace(",", ""))) for at, value in found]


def test_charts_hold_what_was_measured() -> None:
    trace = rich_trace()
    document = page(trace)
    series = over_time(trace)
    assert series is not None
    for figure, expected in (("requests", series.requests_per_s), ("flight", series.in_flight)):
        points = told(document, figure, "minutes")
        assert len(points) > 30
        for minutes, value in points:
            # The place is printed to three figures: it may fall on either side of a step.
            near = {max(0, int((60 * minutes + shift) / series.step_s)) for shift in (-0.3, 0, 0.3)}
            assert any(
                value == pytest.approx(expected[place], rel=0.01, abs=0.005) for place in near if place < len(expected)
            )
    reuse = statistics_of(trace).reuse
    assert reuse is not None
    assert told(document, "reuse", "tokens in the cache")[-1][1] == pytest.approx(100 * reuse.share, rel=0.01)


def ticks(document: str, figure: str) -> list[str]:
    """Texts of the horizontal axis of the narrow picture."""
    part = document.split(f'id="figure-{figure}"')[1].split("</svg>")[0]
    return re.findall(r'<text class="soft"[^>]*text-anchor="middle">([^<]*)</text>', part)


def test_ticks_are_round_few_and_in_one_unit() -> None:
    document = page(rich_trace())
    assert ticks(document, "requests") == ["0", "1", "2", "3", "4"]
    assert ticks(document, "lengths") == ["30", "100", "300", "1,000", "3,000"]
    assert ">minutes</text>" in document


@pytest.mark.parametrize(
    ("longest", "unit", "expected"),
    [
        (90, "seconds", ["0", "30", "60", "90"]),
        (3600, "minutes", ["0", "15", "30", "45", "60"]),
        (86_400, "hours", ["0", "6", "12", "18", "24"]),
    ],
)
def test_clocks_are_read_in_their_own_steps(longest: float, unit: str, expected: list[str]) -> None:
    size, name = span(longest)
    scale = Scale.up_to(name, longest / size)
    assert (name, [scale.tick_text(tick) for tick in scale.ticks(5)]) == (unit, expected)


TEXTS = """(page) => ({
  scroll: page.document.documentElement.scrollWidth,
  shown: [...page.document.querySelectorAll("figure")].map((figure) =>
    [...figure.querySelectorAll(".chart:not(.key)")].filter((one) => one.getBoundingClientRect().width).length),
})"""


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_in_a_browser_it_fits_and_shows_each_picture_once(browse: Callable[[str, int, str], Any], width: int) -> None:
    assert browse(page(rich_trace()), width, TEXTS) == {"scroll": width, "shown": [1] * 5}
