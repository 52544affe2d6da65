"""The HTML report: complete, self-contained, well formed, and deaf to hostile names."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import UndefinedError

from autokv.config import EvictionStage
from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.describe import describe
from autokv.report.environment import render
from autokv.report.format import number
from autokv.report.front_chart import front_svg
from autokv.report.page import page
from autokv.tuning.trial import TuningResult

HOSTILE = "{{ 7*7 }}{% raw %}</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028\x1b[2J"
if TYPE_CHECKING:
    from tests.report.conftest import Reader

Read = Callable[[str], "Reader"]


@pytest.fixture(scope="module")
def document(result: TuningResult) -> str:
    from_request = {"request": {"model": "tiny", "maximums": {"kl_divergence": 0.08}}}
    return page(result, from_request)


@pytest.fixture(scope="module")
def reader(document: str, read: Read) -> Reader:
    return read(document)


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
    size, loss = (point.validation.value(name) for name in ("kv_bytes_per_token", "kl_divergence"))
    assert reader.text_of("h1") == f"A quarter of the bytes: {size:,.0f} instead of 23,038 per token, KL {number(loss)}"
    assert reader.visible.index("chosen for the fewest bytes per token") < reader.visible.index(
        "A quarter of the bytes"
    )
    assert describe(point.calibration.config) in reader.visible.replace("\u00a0", " ")
    copied = next(text for tag, text in reader.texts if tag == "code" and "schema_version" in text)
    assert json.loads(copied) == point.calibration.config.model_dump(mode="json")


def test_the_first_line_names_what_decided_and_that_it_is_predicted(
    decided: TuningResult, job: dict[str, Any], read: Read
) -> None:
    reader = read(page(decided, job))
    header = next(index for index, (tag, _) in enumerate(reader.elements) if tag == "header")
    assert [tag for tag, _ in reader.elements[header : header + 2]] == ["header", "p"]
    line, headline = (
        reader.visible.index("chosen for the highest goodput, predicted, unvalidated"),
        reader.text_of("h1"),
    )
    assert line < reader.visible.index(headline)
    assert decided.decision is not None
    assert headline == decided.decision.headline
    for text in (*decided.decision.advice, *decided.decision.notes):
        assert text[1:] in reader.visible
    assert not re.search(r"[^.]*\bhere\b[^.]*\bpredicted\b|[^.]*\bpredicted\b[^.]*\bhere\b", reader.visible)


def test_no_compression_may_be_the_answer(result: TuningResult, read: Read) -> None:
    plain = next(point for point in result.front if point.calibration.config.pipeline.is_identity)
    digest = plain.calibration.config.digest
    reader = read(page(dataclasses.replace(result, recommended=digest), {}))
    assert reader.text_of("h1") == "Compression does not help this workload"
    assert "keep the" in reader.visible
    assert "recommended, 16-bit" in [text for tag, text in reader.texts if tag == "text"]


def test_times_are_ratios_to_the_baseline_timed_beside_them(document: str, result: TuningResult) -> None:
    assert "µs" not in document
    point = view.recommended(result)
    assert point is not None
    found = view.shown(point)
    ratio = found.value("attention_us") / found.value("attention_baseline_us")
    assert view.mean(found, view.RATIO) == pytest.approx(ratio)
    assert f'<data value="{ratio!r}">{number(ratio)}' in document


def test_a_difference_within_the_spread_of_the_runs_is_noise(result: TuningResult) -> None:
    point = view.recommended(result)
    assert point is not None
    found = view.shown(point)
    near = [{**row, "attention_us": 1.05 * row["attention_baseline_us"]} for row in found.samples]
    rows = [{**row, "attention_us_spread": 500.0, "batch": 4 - number % 2} for number, row in enumerate(near)]
    noisy = dataclasses.replace(point, validation=Measurement.of_samples(found.config, rows))
    front = [noisy if one is point else one for one in result.front]
    document = page(dataclasses.replace(result, front=front), {})
    assert "difference within noise" in document
    assert "difference within noise" not in page(result, {})
    assert view.batch(view.shown(noisy)) == 3


def test_lost_tasks_are_named_where_they_decide(result: TuningResult) -> None:
    point = next(one for one in result.front if not one.feasible)
    assert point.validation is not None
    rows = [{**row, "task": "needle", "negative_sample_rate": 1.0} for row in point.validation.samples]
    lost = dataclasses.replace(point, validation=Measurement.of_samples(point.validation.config, rows))
    assert [view.verdict(one) for one in (point, lost)] == ["over limit", "loses tasks"]


def test_a_batch_and_fp8_are_named(result: TuningResult, read: Read) -> None:
    point = view.recommended(result)
    assert point is not None
    found = view.shown(point)
    samples = [{**sample, "batch": 4, "attention_fp8_us": 77.0} for sample in found.samples]
    batched = Measurement.of_samples(found.config, samples)
    front = [dataclasses.replace(point, validation=batched) if one is point else one for one in result.front]
    said = read(page(dataclasses.replace(result, front=front), {})).visible
    assert "one layer, one sequence" not in said
    assert f"one layer, 4 sequences; fp8 {number(77 / found.value('attention_baseline_us'))}×" in said


def test_every_point_of_the_front_is_on_the_page_with_the_results_own_numbers(
    reader: Reader, result: TuningResult
) -> None:
    expected = {}
    for point in result.front:
        splits = (point.calibration, point.validation)
        expected[point.calibration.config.digest] = [
            view.mean(split, name) for name in ("kl_divergence", "kv_bytes_per_token", view.RATIO) for split in splits
        ]
    short, every = reader.tables[0], reader.tables[1]
    assert every == expected
    assert set(short) < set(every)
    assert set(view.roles(result)) <= set(short)
    for digest, values in short.items():
        found = next(view.shown(one) for one in result.front if one.calibration.config.digest == digest)
        loss = found.metrics["kl_divergence"]
        assert values == [loss.mean, loss.worst, found.value("kv_bytes_per_token"), view.mean(found, view.RATIO)]
    folded = len(every) - len(short)
    assert f"{folded} configuration{' differs' if folded == 1 else 's differ'} from one of these" in reader.visible


def test_a_pair_of_columns_has_one_unit(decided: TuningResult) -> None:
    document = page(decided, {})
    heads = re.findall(r'<th colspan="2" scope="colgroup">([^<]*)</th>', document)
    assert [head for head in heads if not re.fullmatch(r"[^()]+ \((nats/token|B/token|requests/s|s)\)", head)] == []
    assert heads.count("Time to first token, p95 (s)") == 2
    cells = re.findall(r'<td class="number">(.*?)</td>', document)
    assert not any('class="unit"' in cell for cell in cells)
    full = decided.decision.baseline["ttft_p95_ms"] if decided.decision else 0.0
    fastest = min(view.shown(point).value("ttft_p95_ms") for point in decided.front)
    assert f'<data value="{fastest!r}">{number(fastest / 1e3)}</data>' in document
    assert f'−{100 * (1 - fastest / full):.0f}% <span class="mark">better</span>' in document


def test_better_and_worse_are_said_in_words(decided: TuningResult, read: Read) -> None:
    slower = {"goodput_requests_per_s": 100.0, "ttft_p95_ms": 100.0}
    assert decided.decision is not None
    decision = dataclasses.replace(decided.decision, baseline=slower)
    marks = [
        (found["class"], text)
        for document in (page(decided, {}), page(dataclasses.replace(decided, decision=decision), {}))
        for found, text in zip(read(document).classed("mark"), re.findall(r'"mark">(\w+)<', document), strict=True)
    ]
    assert {text for _, text in marks} == {"better", "worse", "same"}


def test_each_thing_is_said_once(decided: TuningResult, job: dict[str, Any], read: Read) -> None:
    """The reason of a served trace ends with the verdict, which has a section of its own with its figures."""
    verdict = "compared with the 16-bit cache, which runs out of memory: 3× as many requests fit at once"
    run = {
        "name": "K4V4", "concurrent_requests": 3.0, "goodput_requests_per_s": 2.0, "throughput_tokens_per_s": 9.0,
        "ttft_ms": {}, "tpot_ms": {}, "e2e_ms": {}, "slo_attainment": 1.0, "max_rate": None, "peak_kv_bytes": 1.0,
        "capacity_bytes": 2.0, "max_running": 3, "utilization": 1.0, "preemptions": 0, "refused": 0,
        "cached_share": 0.0,
    }  # fmt: skip
    comparison = {"verdict": verdict, "runs": [run, {**run, "name": "16-bit"}], "gains": {}}
    note = "SLO: TTFT <= 10 ms, five times what an idle server takes"
    job["serving"] = {"device": "tiny", "requests": 9, "notes": [note], "predicted": "scaled", "comparison": comparison}
    assert decided.decision is not None
    decision = dataclasses.replace(decided.decision, notes=("scaled", note, "the pace moved"))
    told = dataclasses.replace(decided, decision=decision, reason=f"the highest goodput of three; {verdict}")
    page_of = read(re.sub(r"<details>.*?</details>", "", page(told, job), flags=re.DOTALL))
    for text in ("3× as many requests fit at once", "five times what an idle server", "The highest goodput of three."):
        assert page_of.visible.count(text) == 1, text
    assert page_of.visible.count("Scaled.") == page_of.visible.count("The pace moved.") == 1


def test_the_closest_miss_is_named_once(result: TuningResult, read: Read) -> None:
    reason = "no configuration of the front has KL divergence of at most 1e-09 nats/token; 0123456789ab comes closest"
    job = {"request": {"maximums": {"kl_divergence": 1e-9}}}
    reader = read(page(dataclasses.replace(result, recommended=None, reason=reason), job))
    assert "KL divergence of at most 1e-09 nats/token." in reader.visible
    assert "comes closest" not in reader.visible
    assert "The closest miss is" in reader.visible


def test_where_everything_was_measured_nothing_is_said_of_the_rest(result: TuningResult, read: Read) -> None:
    assert "Not measured" in read(page(result, {})).text_of("h2")
    ran = [trial for trial in result.trials if trial.state == "complete"]
    assert "Not measured" not in read(page(dataclasses.replace(result, trials=ran), {})).text_of("h2")


def test_the_reference_of_attention_is_named(document: str, reader: Reader) -> None:
    assert "of PyTorch's fastest 16-bit attention, timed in turn" in unescape(document)
    assert "Attention: 1× is PyTorch's fastest 16-bit attention" in reader.visible
    assert "Attention time vs PyTorch 16-bit (×)" in reader.visible


def test_the_hypervolume_counts_whole_trials(result: TuningResult) -> None:
    few = dataclasses.replace(result, hypervolume=[0.1, 0.2, 0.2, 0.4, 0.4, 0.5])
    drawn = re.search(r'<figure id="figure-hypervolume">.*?</figure>', page(few, {}), re.DOTALL)
    assert drawn
    told = re.findall(r"<title>trials: ([^\n]*)\nhypervolume: ([^<]*)</title>", drawn[0])
    assert {trial for trial, _ in told} == set("123456")


def test_failures_are_counted_with_their_reasons(reader: Reader, result: TuningResult) -> None:
    infeasible = sum(trial.state == "infeasible" for trial in result.trials)
    cells = reader.text_of("td").split()
    assert str(infeasible) in cells
    assert "out of memory" in reader.visible
    assert len(view.failures(result.trials)) == 2


def test_hostile_names_stay_text(
    result: TuningResult, job: dict[str, Any], read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    for point in result.front:
        if isinstance(point.calibration.config.pipeline.eviction, EvictionStage):
            monkeypatch.setattr(type(point.calibration.config.pipeline.eviction), "title", HOSTILE)
    job["model"] = {"name": HOSTILE, HOSTILE: HOSTILE}
    job["workload"] = {"path": HOSTILE}
    trials = [dataclasses.replace(trial, source=HOSTILE, reason=trial.reason and HOSTILE) for trial in result.trials]
    front = [dataclasses.replace(point, source=HOSTILE) for point in result.front]
    importance = {"kl_divergence": {HOSTILE: 1.0}}
    hostile = dataclasses.replace(result, trials=trials, front=front, importance=importance, reason=HOSTILE)
    document = page(hostile, job)
    reader = read(document)
    tame = read(
        page(
            dataclasses.replace(result, importance={"kl_divergence": {"a": 1.0}}),
            {**job, "model": {"name": "m", "n": "m"}},
        )
    )
    assert [tag for tag, _ in reader.elements if tag == "img"] == []
    count = [tag for tag, _ in reader.elements].count("script")
    assert count == [tag for tag, _ in tame.elements].count("script") == 1
    assert HOSTILE.split("\u2028")[0] in reader.visible
    assert any(HOSTILE.split("\u2028")[0] in (dot["aria-label"] or "") for dot in reader.classed("dot"))
    shown = {tag for tag, text in reader.texts if HOSTILE in text.replace("\u00a0", " ")}
    assert shown == {"title", "b", "p", "li", "code", "h3", "span", "dt", "dd", "td"}


def test_nothing_recommended_is_said_plainly(result: TuningResult, read: Read) -> None:
    job = {"request": {"maximums": {"kl_divergence": 1e-9}}}
    reader = read(page(dataclasses.replace(result, recommended=None, reason="no point of the front meets it"), job))
    assert "Nothing meets the constraints" in reader.text_of("h1")
    assert "closest miss" in reader.visible
    assert "wanted at most 1e-09" in reader.visible


def test_a_search_without_a_single_measurement_still_has_a_report(result: TuningResult, read: Read) -> None:
    trials = [dataclasses.replace(trial, state="failed", measurement=None, reason="boom") for trial in result.trials]
    empty = TuningResult(result.objectives, trials, [], None, reason="every trial failed")
    reader = read(page(empty, {}))
    assert "boom" in reader.visible
    assert "No configuration was measured" in front_svg(empty)


def test_an_interrupted_search_does_not_claim_broken_limits(result: TuningResult, read: Read) -> None:
    front = [dataclasses.replace(point, validation=None, feasible=False) for point in result.front]
    stopped = dataclasses.replace(result, front=front, recommended=None, stopped_by="interrupt")
    reader = read(page(stopped, {}))
    assert "Stopped before anything was confirmed" in reader.text_of("h1")
    assert reader.text_of("td").count("unconfirmed") == len(reader.tables[0]) + len(front)
    labels = [dot["aria-label"] or "" for dot in reader.classed("dot")]
    assert any("calibration prompts" in label for label in labels)
    assert not any("validation" in label for label in labels)


def test_untimed_results_leave_the_time_chart_out(result: TuningResult, read: Read) -> None:
    def untimed(measurement: Measurement) -> Measurement:
        metrics = {name: value for name, value in measurement.metrics.items() if not name.endswith("_us")}
        return dataclasses.replace(measurement, metrics=metrics)

    trials = [
        dataclasses.replace(one, measurement=one.measurement and untimed(one.measurement)) for one in result.trials
    ]
    front = [dataclasses.replace(one, calibration=untimed(one.calibration), validation=None) for one in result.front]
    reader = read(page(dataclasses.replace(result, trials=trials, front=front), {}))
    figures = [found["id"] for tag, found in reader.elements if tag == "figure"]
    assert figures == ["figure-front-kl_divergence", "figure-hypervolume", "figure-samples"]


def test_a_page_that_lacks_a_value_is_an_error_not_a_gap() -> None:
    with pytest.raises(UndefinedError, match="'facts' is undefined"):
        render("trace.html.jinja", name="a trace", remark="")
