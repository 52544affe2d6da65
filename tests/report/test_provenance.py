"""What was measured where, when and with which versions, in words."""

from __future__ import annotations

import dataclasses
from typing import Any

from autokv.report.provenance import flatten, sentences
from autokv.tuning.trial import TuningResult


def test_what_was_measured_is_said_in_sentences(result: TuningResult, job: dict[str, Any]) -> None:
    job["model"]["revision"] = "sha256:12ab"
    job["contexts"]["tasks"] = "two of each; left out: variable tracking, which the full cache fails"
    said = list(sentences(result, job))
    assert said[0] == (
        "Measured on 2-core x86-64, float32: quality against the full cache's output, bytes per token, attention "
        "times, each beside the 16-bit cache's."
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
    nested = {"rope": {"theta": 1e4, "scaled": False}, "lengths": list(range(20)), "bytes": 123456}
    assert dict(flatten(nested)) == {
        "rope theta": "10000",
        "rope scaled": "no",
        "lengths": "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … (20 in all)",
        "bytes": "123,456",
    }
