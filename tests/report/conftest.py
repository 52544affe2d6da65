"""A made-up but plausible tuning result: about sixty trials of a small model, with failures and a front."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.evaluation.measurement import Measurement
from autokv.tuning.trial import Decision, FrontPoint, TrialRecord, TuningResult

FULL_BYTES = 23040.0
OBJECTIVES = ("kl_divergence", "kv_bytes_per_token", "attention_us")
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Reader(HTMLParser):
    """Checks nesting as it reads; keeps elements, the texts of each and the ``data`` values per table row."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.tables: list[dict[str, list[float]]] = []
        """For every table: digest of a row to its values."""
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
        if tag == "table":
            self.tables.append({})
        if tag == "tr":
            self.row = attributes.get("data-digest")
            if self.row is not None:
                self.tables[-1][self.row] = []
        if tag == "data" and self.row is not None:
            self.tables[-1][self.row].append(float(attributes["value"] or "nan"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            self.row = None

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text_of(self, tag: str) -> str:
        return " ".join(text for inside, text in self.texts if inside == tag)

    def classed(self, name: str) -> list[dict[str, str | None]]:
        """Attributes of the elements of a class."""
        return [found for _, found in self.elements if name in (found.get("class") or "").split()]

    @property
    def visible(self) -> str:
        return " ".join(text for inside, text in self.texts if inside not in ("script", "style"))


def _in_browser(document: str, width: int, script: str, folder: Path) -> Any:  # noqa: ANN401 - any JSON
    """What ``script``, a function of a page's window, returns of ``document`` in a frame ``width`` pixels wide."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed")
    frame = f"<iframe style='border:0;width:{width}px;height:9000px' srcdoc=\"{escape(document)}\"></iframe>"
    run = f"const run = {script}; onload = () => {{ document.title = JSON.stringify(run(frames[0])) }}"
    file = folder / "frame.html"
    file.write_text(f"<!doctype html><body style='margin:0'>{frame}<script>{run}</script>", encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [browser, *options.split(), "--disable-component-update", "--virtual-time-budget=4000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--window-size={max(width, 500)},9000", f"--user-data-dir={folder / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(unescape(found[1]))


def _config(generator: random.Random) -> CompressionConfig:
    method = generator.choice(["none", "snapkv", "knorm", "expected_attention", "streaming_llm", "h2o"])
    eviction: dict[str, Any] = {"method": method}
    if method != "none":
        eviction["keep_ratio"] = round(generator.uniform(0.15, 0.95), 2)
        if method == "snapkv" and generator.random() < 0.5:
            eviction |= {"layer_budget": "pyramid", "head_budget": "adaptive"}
    quantization: dict[str, Any] = {"method": generator.choice(["none", "fp8", "integer", "integer", "integer"])}
    if quantization["method"] == "integer":
        group = generator.choice([32, 64])
        for side, axis in (("key", "channel"), ("value", "token")):
            quantization[side] = {"bits": generator.choice([2, 3, 4, 8]), "axis": axis, "group_size": group}
        quantization["residual_tokens"] = generator.choice([0, 64, 128])
    low_rank: dict[str, Any] = {"method": "none"}
    if quantization["method"] == "integer" and generator.random() < 0.3:
        low_rank = {"method": "residual", "key_rank": 4, "value_rank": generator.choice([2, 4])}
    pipeline = {"eviction": eviction, "quantization": quantization, "low_rank": low_rank}
    return CompressionConfig.model_validate({"pipeline": pipeline})


def _measurement(config: CompressionConfig, split: str, samples: int = 6) -> Measurement:
    generator = random.Random(config.digest + split)
    truth = random.Random(config.digest)
    pipeline = config.pipeline.model_dump()
    keep = pipeline["eviction"].get("keep_ratio", 1.0)
    sides = [pipeline["quantization"].get(side, {}).get("bits") for side in ("key", "value")]
    fallback = {"fp8": 8, "none": 16}.get(pipeline["quantization"]["method"], 16)
    bits = sum(bit or fallback for bit in sides) / 2
    loss = 0.002 + (1 - keep) ** 2 * 0.4 + 0.6 * 2.0 ** (-1.3 * bits) * 4
    loss *= truth.lognormvariate(0, 0.5)
    size = FULL_BYTES * keep * (bits + (0.6 if bits < 16 else 0)) / 16
    rows = []
    for index in range(samples):
        context = generator.choice([512, 1024, 1531, 2048])
        slow = context / 1024
        rows.append(
            {
                "id": f"{split}-{index}",
                "kind": "text",
                "context_tokens": context,
                "kl_divergence": loss * generator.lognormvariate(0, 0.5) * (6 if index == 4 else 1),
                "top1_agreement": max(0.0, 1 - loss * generator.uniform(0.3, 1.2)),
                "nll_delta": loss * generator.uniform(-0.2, 0.8),
                "kv_bytes_per_token": size * generator.uniform(0.99, 1.01),
                "compression_ratio": FULL_BYTES / size,
                "attention_us": slow * (60 + 140 * size / FULL_BYTES) * generator.uniform(0.95, 1.05),
                "attention_baseline_us": slow * 180 * generator.uniform(0.97, 1.03),
                "compress_us": slow * generator.uniform(800, 2500),
            }
        )
    return Measurement.of_samples(config, rows)


def _dominates(one: Measurement, other: Measurement) -> bool:
    pairs = [(one.value(name), other.value(name)) for name in OBJECTIVES]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def build_result(count: int = 60, seed: int = 0) -> TuningResult:
    """Sixty trials, the front over the three usual objectives, the smallest below a KL of 0.08 recommended."""
    generator = random.Random(seed)
    trials = []
    seen: set[str] = set()
    for number in range(count):
        config = _config(generator)
        while config.digest in seen:
            config = _config(generator)
        seen.add(config.digest)
        params = {
            "eviction.method": config.pipeline.eviction.method,
            "eviction.keep_ratio": config.pipeline.eviction.model_dump().get("keep_ratio"),
            "quantization.method": config.pipeline.quantization.method,
            "low_rank.method": config.pipeline.low_rank.method,
        }
        record = TrialRecord(
            number,
            "complete",
            params,
            f"literature: KIVI-{number}" if number < 8 else "tpe",
            config,
            _measurement(config, "calibration"),
            None,
            generator.uniform(2, 7),
        )
        if number % 11 == 5:
            reason = f"kv_bytes_per_token is {4000 + number}, over the limit of 4000"
            record = dataclasses.replace(record, state="infeasible", measurement=None, reason=reason)
        elif number % 23 == 9:
            record = dataclasses.replace(record, state="failed", measurement=None, reason="out of memory")
        trials.append(record)
    ran = [trial.measurement for trial in trials if trial.measurement is not None]
    best = [one for one in ran if not any(_dominates(other, one) for other in ran)]
    front = []
    for measurement in best:
        validation = _measurement(measurement.config, "validation")
        number = next(trial.number for trial in trials if trial.measurement is measurement)
        within = validation.value("kl_divergence") <= 0.08
        front.append(FrontPoint(number, trials[number].source, measurement, validation, within))

    def validated(point: FrontPoint, metric: str) -> float:
        assert point.validation is not None
        return point.validation.value(metric)

    def digest_of(metric: str, points: list[FrontPoint]) -> str:
        return min(points, key=lambda point: validated(point, metric)).calibration.config.digest

    feasible = [point for point in front if point.feasible]
    ordered = sorted(front, key=lambda point: validated(point, "kv_bytes_per_token"))
    return TuningResult(
        objectives=OBJECTIVES,
        trials=trials,
        front=front,
        recommended=digest_of("kv_bytes_per_token", feasible),
        named={
            "fastest": digest_of("attention_us", front),
            "smallest": digest_of("kv_bytes_per_token", front),
            "knee": ordered[len(ordered) // 2].calibration.config.digest,
        },
        reason="smallest of the front that keeps kl_divergence at most 0.08 on the validation prompts",
        hypervolume=[0.82 * (1 - 0.9 ** (number + 1)) for number in range(count)],
        importance={
            "kl_divergence": {"eviction.keep_ratio": 0.52, "quantization.key.bits": 0.31, "eviction.method": 0.17},
            "kv_bytes_per_token": {"eviction.keep_ratio": 0.45, "quantization.key.bits": 0.4, "low_rank.method": 0.15},
            "attention_us": {"eviction.keep_ratio": 0.7, "quantization.method": 0.3},
        },
    )


def build_job() -> dict[str, Any]:
    """The facts that travel beside a result."""
    return {
        "id": "7f3a91c2",
        "finished": "2026-02-03T10:11:12Z",
        "request": {
            "model": "SmolLM2-135M-Instruct",
            "space": "balanced",
            "sampler": "tpe",
            "trials": 60,
            "seed": 0,
            "maximums": {"kl_divergence": 0.08},
            "minimums": {},
        },
        "model": {
            "name": "SmolLM2-135M-Instruct",
            "architecture": "LlamaForCausalLM",
            "layers": 30,
            "query_heads": 9,
            "kv_heads": 3,
            "head_dim": 64,
            "rope": {"rope_type": "default", "rope_theta": 100000.0},
            "context_tokens": 8192,
            "kv_bytes_per_token": 23040,
        },
        "hardware": {"device": "cpu", "name": "2-core x86-64", "memory_bytes": 8 << 30, "dtype": "float32"},
        "workload": {"name": "azure_conversation", "format": "azure_csv", "requests": 19366},
        "contexts": {"calibration": [512, 1024, 1531, 2048], "validation": [512, 1024, 1531, 2048]},
        "versions": {"autokv": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "optuna": "5.0.0"},
        "seconds": 402.7,
    }


def build_documents(result: TuningResult) -> dict[str, ConfigurationDocument]:
    """A document for each front point."""
    return {
        point.calibration.config.digest: ConfigurationDocument(
            pipeline=point.calibration.config.pipeline,
            model={"name": "SmolLM2-135M-Instruct"},
            measured=point.calibration.to_dict()["metrics"],
        )
        for point in result.front
    }


@pytest.fixture(scope="session")
def result() -> TuningResult:
    return build_result()


@pytest.fixture
def job() -> dict[str, Any]:
    return build_job()


@pytest.fixture(scope="session")
def documents(result: TuningResult) -> dict[str, ConfigurationDocument]:
    return build_documents(result)


@pytest.fixture(scope="session")
def documents_of() -> Callable[[TuningResult], dict[str, ConfigurationDocument]]:
    return build_documents


@pytest.fixture(scope="session")
def decided(result: TuningResult) -> TuningResult:
    """The result of a workload that was served: the rate that the device sustains decided."""

    def served(measurement: Measurement) -> Measurement:
        sizes = measurement.value("kv_bytes_per_token")
        rows = [
            {**row, "goodput_requests_per_s": 30_000 / sizes, "ttft_p95_ms": 20_000 * sizes / FULL_BYTES}
            for row in measurement.samples
        ]
        return Measurement.of_samples(measurement.config, rows)

    trials = [
        dataclasses.replace(one, measurement=one.measurement and served(one.measurement)) for one in result.trials
    ]
    front = [
        dataclasses.replace(
            one, calibration=served(one.calibration), validation=one.validation and served(one.validation)
        )
        for one in result.front
    ]
    decision = Decision(
        objective="goodput_requests_per_s",
        headline="2.9x as many requests at once, goodput +85%",
        advice=("With 22 GB of memory nothing is gained.",),
        notes=("the 16-bit baseline moved by 2.1x during the run", "predicted, unvalidated"),
        baseline={"goodput_requests_per_s": 30_000 / FULL_BYTES, "ttft_p95_ms": 20_000.0},
    )
    named = {**result.named, "safest": front[-1].calibration.config.digest}
    objectives = ("kl_divergence", "kv_bytes_per_token", "goodput_requests_per_s", "ttft_p95_ms")
    return dataclasses.replace(
        result, trials=trials, front=front, named=named, objectives=objectives, decision=decision
    )


@pytest.fixture(scope="session")
def read() -> Callable[[str], Reader]:
    """A page's elements and texts."""
    return Reader


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str, int, str], Any]:
    """What a function of a page's window returns of a document in a frame of a width; skips without a browser."""
    return lambda document, width, script: _in_browser(document, width, script, tmp_path)
