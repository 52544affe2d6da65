"""The page of a simulated trace: complete, self-contained, deaf to hostile names, and true to the timeline."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from autokv.report.changes import Change
from autokv.report.format import sentence
from autokv.report.serving_page import lines, page
from autokv.report.serving_rows import Row, remarks, rows
from autokv.serving import SLO, CostModel, Curve, Grid, SequenceBytes
from autokv.serving.compare import compare
from autokv.serving.comparison import Comparison
from autokv.serving.outcome import Timeline
from autokv.serving.simulator import SimulatedEngine
from autokv.workload import synthesize

if TYPE_CHECKING:
    from tests.report.conftest import Reader

HOSTILE = "{{ 7*7 }}{% raw %}</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[2J"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the trace is short", "The trace is short."),
        ("fp8: a note", "fp8: a note."),
        ("pip install 'autokv[silicon]' has more", "pip install 'autokv[silicon]' has more."),
        ("autokv trace inspect says why", "autokv trace inspect says why."),
    ],
)
def test_a_sentence_has_a_capital_unless_it_begins_with_a_name_or_a_command(text: str, said: str) -> None:
    assert sentence(text) == said


def costs(per_token: float) -> CostModel:
    return CostModel(
        rest=Curve((1.0, 512.0, 2048.0), (0.002, 0.02, 0.08)),
        prefill_attention=Curve((256.0, 1024.0, 4096.0), (0.0002, 0.002, 0.03)),
        compress=Curve((1.0, 4096.0), (0.0, 0.001)),
        decode_attention=Grid((1,), (Curve((1.0, 4096.0), (1e-5, 1e-4)),)),
        sequence=SequenceBytes(per_token),
    )


@pytest.fixture(scope="module")
def found() -> Comparison:
    trace = synthesize(requests=300, seed=3, requests_per_s=14, input_tokens=(700, 2000), output_tokens=(60, 150))
    engines = [
        SimulatedEngine(name, costs(size), 5e6) for name, size in (("K4V4", 250.0), ("16-bit", 1000.0), ("fp8", 500.0))
    ]
    return compare(replace(trace, name=HOSTILE), *engines, slo=SLO(ttft_ms=500), max_rate=True)


@pytest.fixture(scope="module")
def reader(found: Comparison, read: Callable[[str], Reader]) -> Reader:
    return read(page(found, {"device": HOSTILE}, [*remarks(found), HOSTILE]))


def test_it_says_the_gain_the_verdict_and_every_figure(found: Comparison, reader: Reader) -> None:
    gain = found.gain(found.full) if found.full else None
    assert gain is not None
    assert gain.goodput is not None
    expected = f"{gain.concurrent_requests:.2g}× as many requests at once, goodput {gain.goodput - 1:+.0%}"
    assert reader.text_of("h1") == expected
    assert sentence(found.verdict) in reader.visible
    for row in rows(found.to_dict()):
        assert row.title in reader.visible
        assert all(value in [text.strip() for _, text in reader.texts] for value in row.texts)


def test_what_is_predicted_is_said_first(found: Comparison, read: Callable[[str], Reader]) -> None:
    assert "predicted" not in read(page(replace(found, trace="t"), {"device": "H100"}, [])).visible
    hedged = read(page(replace(found, trace="t"), {"device": "H100 (predicted)"}, [])).visible
    assert hedged.index("predicted, unvalidated") < hedged.index("as many requests at once")


def test_hostile_names_stay_text(found: Comparison, read: Callable[[str], Reader]) -> None:
    named = replace(found, candidate=replace(found.candidate, name=HOSTILE))
    reader = read(page(named, {"device": HOSTILE, HOSTILE: "model"}, [*remarks(named), HOSTILE]))
    assert {tag for tag, text in reader.texts if HOSTILE in text} == {"title", "b", "th", "dd", "dt", "li", "span"}
    assert any(HOSTILE in (attributes.get("aria-label") or "") for _, attributes in reader.elements)
    tags = [tag for tag, _ in reader.elements]
    assert "img" not in tags
    assert tags.count("script") == 1
    assert "alert(1)" in reader.visible


def test_nothing_is_fetched(found: Comparison) -> None:
    document = page(found, {}, [])
    assert not re.search(r"<(?:script|link|img)[^>]*\s(?:src|href)=", document)
    assert "default-src 'none'" in unescape(document)


@pytest.mark.parametrize(
    ("after", "before", "better", "said", "mark"),
    [(3.0, 1.0, 1, "3.00×", "better"), (0.5, 1.0, 1, "−50%", "worse"), (1.04, 1.0, -1, "", "same"), (2, 1, 0, "–", "")],
)
def test_a_change_is_better_or_worse_by_what_the_figure_is(
    after: float, before: float, better: int, said: str, mark: Literal["better", "worse", "same", ""]
) -> None:
    assert Row("figure", "", (after, before), better).change(1) == Change(said, mark)
    assert Row("share", "%", (98.0, 40.0), 1).change(1) == Change("+58 points", "better")


def test_the_lines_are_the_timeline(found: Comparison) -> None:
    for name, values in (
        ("requests waiting", "waiting"),
        ("requests in flight", "running"),
        ("KV cache (MB)", "kv_bytes"),
    ):
        scale = 1e6 if values == "kv_bytes" else 1.0

        def scaled(times: Timeline, values: str = values, scale: float = scale) -> NDArray[np.float64]:
            line: NDArray[np.float64] = getattr(times, values) / scale
            return line

        drawn = lines(found, name, scaled)
        for run, series in zip(found.runs, drawn.series, strict=True):
            line = scaled(run.outcome.timeline)
            assert series.name == run.name
            assert len(series.x) == len(series.y) <= 240
            assert (np.diff(series.x) > 0).all()
            assert line.min() <= min(series.y) + 1e-9
            assert max(series.y) <= line.max() * (1 + 1e-9)
            assert series.x[-1] <= found.runs[1].report.duration_s


FIT = """(page) => ({
  scroll: page.document.documentElement.scrollWidth,
  tables: [...page.document.querySelectorAll("div.wide")].map((one) => one.scrollWidth - one.clientWidth),
})"""


def test_on_a_phone_nothing_is_cut_off(found: Comparison, browse: Callable[[str, int, str], Any]) -> None:
    named = replace(found, candidate=replace(found.candidate, name="SnapKV 60%, K4V2 g32/16 key/token, residual 128"))
    document = page(replace(named, trace="azure conversation"), {"device": "H100"}, remarks(named))
    assert browse(document, 375, FIT) == {"scroll": 375, "tables": [0]}


def test_a_remark_of_every_run_is_made_once(found: Comparison) -> None:
    assert remarks(found)[0] == "goodput counts requests within TTFT <= 500 ms"
    noted: dict[str, Any] = {
        name: replace(run, report=replace(run.report, notes=("of all", f"of {run.name}")))
        for name, run in (("candidate", found.candidate), ("full", found.full), ("float8", found.float8))
        if run is not None
    }
    lines = remarks(replace(found, **noted, impossible={"other": "too small"}))
    assert lines[1:] == (
        "of all",
        "K4V4: of K4V4",
        "16-bit: of 16-bit",
        "fp8: of fp8",
        "other: cannot serve: too small",
    )


def test_figures_that_say_nothing_are_left_out(found: Comparison) -> None:
    names = [row.name for row in rows(found.to_dict())]
    assert "prompt tokens shared" not in names
    assert "sustained rate" in names
    assert {"goodput", "within the SLO", "peak KV memory"} <= set(names)


def test_long_times_are_in_seconds(found: Comparison) -> None:
    document = found.to_dict()
    for run, milliseconds in zip(document["runs"], (9_000.0, 1_810_435.0, 12_000.0), strict=True):
        run["ttft_ms"] = {**run["ttft_ms"], "p95": milliseconds}
    (row,) = (row for row in rows(document) if row.name == "time to first token, p95")
    assert row.title.endswith("(s)")
    assert row.texts == ("9.00", "1,810", "12.0")


@pytest.mark.parametrize(("text", "written"), [("a queue grows", "A queue grows."), ("fp8: a queue", "fp8: a queue.")])
def test_a_name_keeps_its_small_letter(text: str, written: str) -> None:
    assert sentence(text) == written
