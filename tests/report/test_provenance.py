"""What was measured where, when and with which versions, in words."""

from __future__ import annotations

import dataclasses
from typing import Any

from autokv.evaluation.metrics import METRICS
from autokv.hardware import HardwareProfile
from autokv.models import ModelFacts
from autokv.report.facts import NAMES, leaves, name_of
from autokv.report.provenance import sentences
from autokv.serving.engine_options import ServingOptions
from autokv.tuning.request import TuningRequest
from autokv.tuning.trial import TuningResult


def test_what_was_measured_is_said_in_sentences(result: TuningResult, job: dict[str, Any]) -> None:
    job["model"]["revision"] = "sha256:12ab"
    job["contexts"]["tasks"] = "two of each; left out: variable tracking, which the full cache fails"
    said = list(sentences(result, job))
    assert said[0] == (
        "Measured on 2-core x86-64, float32: quality against the full cache's output, bytes per token, attention "
        "times, in turn with PyTorch's fastest 16-bit attention."
    )
    ran = sum(trial.state != "infeasible" for trial in result.trials)
    assert said[1] == (
        f"{ran} trials in 6 min 43 s, finished on 2026-02-03T10:11:12Z; {60 - ran} more candidates were infeasible and "
        "not run."
    )
    assert said[2].startswith("Calibration: 6 prompts of 512 to ")
    assert said[3].endswith("confirmed the front; the search has not seen them.")
    assert said[4:] == [
        "Tasks: two of each; left out: variable tracking, which the full cache fails.",
        "Model: SmolLM2-135M-Instruct, revision sha256:12ab.",
        "Versions: AutoKV 0.1.0, PyTorch 2.13.0, Transformers 5.23.0, Optuna 5.0.0.",
    ]


def test_what_was_simulated_is_told_from_what_was_predicted(result: TuningResult, job: dict[str, Any]) -> None:
    job["serving"] = {"device": "H100 SXM", "requests": 2000}
    assert "Simulated: serving 2,000 requests on H100 SXM, from times that were measured on it." in list(
        sentences(result, job)
    )
    job["serving"]["predicted"] = "scaled"
    said = next(one for one in sentences(result, job) if one.startswith("Simulated"))
    assert said == "Simulated: serving 2,000 requests on H100 SXM; its costs are predicted, unvalidated."
    assert not any("here" in one.split() and "predicted" in one for one in sentences(result, job))


def test_little_is_known_of_some(result: TuningResult) -> None:
    empty = dataclasses.replace(result, trials=[], front=[])
    assert list(sentences(empty, {})) == ["Measured on a device that is not recorded: nothing.", "0 trials."]


def test_every_fact_is_a_leaf() -> None:
    nested = {"rope": {"rope_theta": 1e4, "scaled": False}, "lengths": list(range(20)), "requests": 123456}
    rate = {"median": 1.97446, "spread": 0.1947, "n": 3}
    device = {"memory_bytes": 25_325_268_992, "copy_gb_per_s": rate, "link_gb_per_s": None}
    asked = {"objectives": ["kl_divergence", "tpot_ms"], "maximums": {"kv_bytes_per_token": 9000.0}, "utility": None}
    assert dict(leaves({**nested, **device, **asked})) == {
        "RoPE base": "10000",
        "RoPE scaled": "no",
        "lengths": "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (20 in all)",
        "requests": "123,456",
        "memory": "25.3 GB",
        "memory copy (GB/s)": "1.97446 (spread 0.1947, 3 runs)",
        "objectives": "KL divergence, time per output token",
        "at most: KV cache": "9000 B/token",
    }


def test_no_fact_has_the_name_of_a_field() -> None:
    fields = {one.name for kind in (ModelFacts, HardwareProfile, ServingOptions) for one in dataclasses.fields(kind)}
    fields |= set(TuningRequest.model_fields) | set(METRICS)
    assert not any("_" in name_of(name) for name in fields)
    told = {name: name_of(name) for name in fields if name.endswith(("_us", "_per_s", "_gflops", "_ms", "_tokens"))}
    bare = [name for name, words in told.items() if name not in METRICS and name not in NAMES]
    assert bare == [], "a unit in a name is no word"
