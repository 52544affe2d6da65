"""The HTML report: complete, self-contained, well formed, and deaf to hostile names."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.answer import sentence
from autokv.report.describe import describe
from autokv.report.figures import front_svg
from autokv.report.page import page
from autokv.tuning.trial import TuningResult

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028\x1b[2J"


class Reader(HTMLParser):
    """Checks nesting as it reads; keeps elements, the texts of each and the ``data`` values per table row."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: dict[str, list[float]] = {}
        self.row: str | None = None
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute is given twice in {tag}"
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.row = attributes.get("data-digest")
        if tag == "data" and self.row is not None:
            self.rows.setdefault(self.row, []).append(float(attributes["value"] or "nan"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            self.row = None

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text_of(self, tag: str) -> str:
        return " ".join(text for inside, text in self.texts if inside == tag)

    @property
    def visible(self) -> str:
        return " ".join(text for inside, text in self.texts if inside not in ("script", "style"))


@pytest.fixture(scope="module")
def document(result: TuningResult) -> str:
    from_request = {"request": {"model": "tiny", "maximums": {"kl_divergence": 0.08}}}
    return page(result, from_request)


@pytest.fixture(scope="module")
def reader(document: str) -> Reader:
    return Reader(document)


def figures(document: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', document, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_nothing_is_loaded_from_elsewhere(reader: Reader) -> None:
    names = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"}
    loads = [(tag, attributes) for tag, attributes in reader.elements if names & set(attributes)]
    assert loads == []
    assert not {tag for tag, _ in reader.elements} & {"link", "iframe", "object", "embed", "base", "form"}
    style = reader.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    policy = [found["content"] for _, found in reader.elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert "default-src 'none'" in (policy[0] or "")


def test_the_answer_comes_first(reader: Reader, result: TuningResult) -> None:
    point = view.recommended(result)
    assert point is not None
    assert point.validation is not None
    assert reader.text_of("h1").replace("\u00a0", " ") == describe(point.calibration.config)
    lead = next(text for _, text in reader.texts if text.startswith("It "))
    assert f"{point.validation.value('kv_bytes_per_token'):,.0f} bytes per token" in lead
    assert "nats/token on validation prompts" in lead
    assert re.search(r"\d µs against \d+ µs with the full cache", lead)
    copied = next(text for tag, text in reader.texts if tag == "code" and "schema_version" in text)
    assert json.loads(copied) == point.calibration.config.model_dump(mode="json")


def timed(first: dict[str, float], second: dict[str, float]) -> Measurement:
    rows = [{"id": str(number), **sample} for number, sample in enumerate((first, second))]
    return Measurement.of_samples(CompressionConfig(), rows)


def test_a_tie_is_within_the_spread_of_the_runs_whatever_the_contexts() -> None:
    short = {"attention_us": 12.0, "attention_baseline_us": 10.0, "attention_us_spread": 3.0, "batch": 4}
    long = {"attention_us": 30.0, "attention_baseline_us": 90.0, "attention_baseline_us_spread": 5.0, "batch": 3}
    compared = view.speedup(timed(short, long))
    assert compared == (pytest.approx(50 / 21), False)
    assert view.batch(timed(short, long)) == 3
    compared = view.speedup(timed(short, {**long, "attention_baseline_us": 34.0}))
    assert compared == (pytest.approx(22 / 21), True)
    assert view.speedup(timed({"kl_divergence": 1.0}, {"kl_divergence": 1.0})) is None


def test_a_batch_and_fp8_are_named(result: TuningResult) -> None:
    point = view.recommended(result)
    assert point is not None
    found = view.shown(point)
    samples = [{**sample, "batch": 4, "attention_fp8_us": 77.0} for sample in found.samples]
    batched = dataclasses.replace(point, validation=Measurement.of_samples(found.config, samples))
    assert "one layer's decode attention takes" in sentence(result, point)
    said = sentence(result, batched)
    assert "one layer's decode attention over 4 sequences at once takes" in said
    assert said.endswith("(77.0 µs with the full cache in fp8).")


def test_the_table_has_every_point_with_the_results_own_numbers(reader: Reader, result: TuningResult) -> None:
    expected = {}
    for point in result.front:
        assert point.validation is not None
        values = [split.value(name) for name in result.objectives for split in (point.calibration, point.validation)]
        expected[point.calibration.config.digest] = [*values, point.validation.value("compression_ratio")]
    assert reader.rows == expected


def test_the_charts_hold_every_measured_trial_and_the_front(document: str, result: TuningResult) -> None:
    drawn = figures(document)
    assert set(drawn) == {"front-kl_divergence", "front-attention_us", "hypervolume", "samples"}
    assert set(drawn) == set(re.findall(r'data-figure="([^"]+)"', document))
    measured = sum(trial.measurement is not None for trial in result.trials)
    for name in ("front-kl_divergence", "front-attention_us"):
        texts = {
            text for trace in drawn[name]["data"] for text in trace.get("text", []) if "16-bit cache<br>" not in text
        }
        assert len(texts) == measured
        for point in result.front:
            assert any(point.calibration.config.digest[:12] in text for text in texts)
    assert drawn["hypervolume"]["data"][0]["y"] == list(result.hypervolume)
    point = view.recommended(result)
    assert point is not None
    dots = [len(trace["x"]) for trace in drawn["samples"]["data"]]
    assert dots == [6, 6]


def test_failures_are_counted_with_their_reasons(reader: Reader, result: TuningResult) -> None:
    infeasible = sum(trial.state == "infeasible" for trial in result.trials)
    cells = reader.text_of("td").split()
    assert str(infeasible) in cells
    assert "out of memory" in reader.visible
    assert len(view.failures(result.trials)) == 2


def test_hostile_names_stay_text(result: TuningResult, job: dict[str, Any]) -> None:
    job["model"] = {"name": HOSTILE, HOSTILE: HOSTILE}
    job["workload"] = {"path": HOSTILE}
    trials = [dataclasses.replace(trial, source=HOSTILE, reason=trial.reason and HOSTILE) for trial in result.trials]
    front = [dataclasses.replace(point, source=HOSTILE) for point in result.front]
    importance = {"kl_divergence": {HOSTILE: 1.0}}
    hostile = dataclasses.replace(result, trials=trials, front=front, importance=importance, reason=HOSTILE)
    document = page(hostile, job)
    reader = Reader(document)
    tame = Reader(
        page(
            dataclasses.replace(result, importance={"kl_divergence": {"a": 1.0}}),
            {**job, "model": {"name": "m", "n": "m"}},
        )
    )
    assert [tag for tag, _ in reader.elements if tag == "img"] == []
    count = [tag for tag, _ in reader.elements].count("script")
    assert count == [tag for tag, _ in tame.elements].count("script") == 3
    assert HOSTILE.split("\u2028")[0] in reader.visible
    hover = [text for trace in figures(document)["front-kl_divergence"]["data"] for text in trace.get("text", [])]
    assert hover
    assert not any("<script" in text or "<img" in text for text in hover)


def test_nothing_recommended_is_said_plainly(result: TuningResult) -> None:
    job = {"request": {"maximums": {"kl_divergence": 1e-9}}}
    reader = Reader(page(dataclasses.replace(result, recommended=None, reason="no point of the front meets it"), job))
    assert "Nothing meets the constraints" in reader.text_of("h1")
    assert "closest miss" in reader.visible
    assert "wanted at most 1e-09" in reader.visible


def test_a_search_without_a_single_measurement_still_has_a_report(result: TuningResult) -> None:
    trials = [dataclasses.replace(trial, state="failed", measurement=None, reason="boom") for trial in result.trials]
    empty = TuningResult(result.objectives, trials, [], None, reason="every trial failed")
    reader = Reader(page(empty, {}))
    assert "boom" in reader.visible
    assert "No configuration was measured" in front_svg(empty)


def test_an_interrupted_search_does_not_claim_broken_limits(result: TuningResult) -> None:
    front = [dataclasses.replace(point, validation=None, feasible=False) for point in result.front]
    stopped = dataclasses.replace(result, front=front, recommended=None, stopped_by="interrupt")
    reader = Reader(page(stopped, {}))
    assert "Stopped before anything was confirmed" in reader.text_of("h1")
    assert reader.text_of("td").count("unconfirmed") == len(front)
    hover = json.dumps(figures(page(stopped, {}))["front-kl_divergence"], ensure_ascii=False)
    assert "· calibration ·" in hover
    assert "validation" not in hover


def test_untimed_results_leave_the_time_chart_out(result: TuningResult) -> None:
    def untimed(measurement: Measurement) -> Measurement:
        metrics = {name: value for name, value in measurement.metrics.items() if not name.endswith("_us")}
        return dataclasses.replace(measurement, metrics=metrics)

    trials = [
        dataclasses.replace(one, measurement=one.measurement and untimed(one.measurement)) for one in result.trials
    ]
    front = [dataclasses.replace(one, calibration=untimed(one.calibration), validation=None) for one in result.front]
    document = page(dataclasses.replace(result, trials=trials, front=front), {})
    assert set(figures(document)) == {"front-kl_divergence", "hypervolume", "samples"}


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_a_browser_draws_every_chart(document: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(document, encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = ["chromium", *options.split(), "--disable-component-update", "--virtual-time-budget=4000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert len(re.findall(r'class="plot js-plotly-plot"', done.stdout)) == 4
    assert "recommended</text>" in done.stdout
