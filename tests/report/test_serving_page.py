"""The page of a simulated trace: complete, self-contained, deaf to hostile names, and true to the timeline."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from autokv.report.serving_page import page
from autokv.report.serving_rows import remarks, rows, sentence
from autokv.serving import SLO, CostModel, Curve, Grid, SequenceBytes
from autokv.serving.compare import Server, compare
from autokv.serving.comparison import Comparison
from autokv.workload import synthesize

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[2J"


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
    servers = [Server(name, costs(size), 5e6) for name, size in (("K4V4", 250.0), ("16-bit", 1000.0), ("fp8", 500.0))]
    return compare(replace(trace, name=HOSTILE), *servers, slo=SLO(ttft_ms=500), max_rate=True)


class Reader(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.inside: list[str] = []
        self.figures = ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.inside.append("figures" if ("id", "figures") in attrs else tag)

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() not in (tag, "figures"):
            pass

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "figures":
            self.figures += data
        elif not self.inside or self.inside[-1] not in ("script", "style"):
            self.texts.append(data)


@pytest.fixture(scope="module")
def reader(found: Comparison) -> Reader:
    return Reader(page(found, {"device": HOSTILE}, [*remarks(found), HOSTILE]))


def test_it_says_the_verdict_and_every_figure(found: Comparison, reader: Reader) -> None:
    text = " ".join(reader.texts)
    assert sentence(found.verdict) in text
    for row in rows(found.to_dict()):
        assert row.title in text
        assert all(value in reader.texts for value in row.texts)


def test_hostile_names_stay_text(reader: Reader) -> None:
    assert "img" not in reader.tags
    assert reader.tags.count("script") == 3
    assert any("alert(1)" in text for text in reader.texts)


def test_nothing_is_fetched(found: Comparison) -> None:
    document = page(found, {}, [])
    assert not re.search(r"<(?:script|link|img)[^>]*\s(?:src|href)=", document)
    assert "default-src &#x27;none&#x27;" in document


def test_the_lines_are_the_timeline(found: Comparison, reader: Reader) -> None:
    figures = json.loads(reader.figures)
    assert set(figures) == {"waiting", "running", "memory"}
    for name, values in (("waiting", "waiting"), ("running", "running"), ("memory", "kv_bytes")):
        drawn = {trace["name"]: trace for trace in figures[name]["data"]}
        for run in found.runs:
            x, y = np.array(drawn[run.name]["x"]), np.array(drawn[run.name]["y"])
            line = getattr(run.outcome.timeline, values) / (1e6 if name == "memory" else 1)
            assert len(x) == len(y) <= 240
            assert (np.diff(x) > 0).all()
            assert line.min() <= y.min() + 1e-9
            assert y.max() <= line.max() * (1 + 1e-4)
            assert x[-1] <= found.runs[1].report.duration_s
    capacity = figures["memory"]["layout"]["shapes"][0]
    assert capacity["y0"] == capacity["y1"] == pytest.approx(5.0)


def test_a_remark_of_every_run_is_made_once(found: Comparison) -> None:
    assert remarks(found)[0] == "goodput counts requests within TTFT <= 500 ms"
    noted = {
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
