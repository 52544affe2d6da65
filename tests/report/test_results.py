"""The files of a finished search."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

import autokv.report.results as results
from autokv.config import CompressionConfig, ConfigurationDocument
from autokv.errors import StorageError
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.metrics import METRICS
from autokv.files import write_atomic
from autokv.report import write_results
from autokv.report.results import trials_csv
from autokv.tuning.trial import TuningResult

NAMES = {"recommended.json", "pareto.json", "trials.csv", "front.svg", "report.html", "request.yaml"}
Documents = dict[str, ConfigurationDocument]


def listing(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_every_file_is_written_and_nothing_else(
    tmp_path: Path, result: TuningResult, documents: Documents, job: dict[str, Any]
) -> None:
    directory = tmp_path / "new" / "out"
    paths = write_results(directory, result=result, documents=documents, job=job)
    assert set(paths) == NAMES == listing(directory)
    assert all(path == directory / name for name, path in paths.items())

    loaded = ConfigurationDocument.load(paths["recommended.json"])
    assert loaded.digest == result.recommended
    assert loaded.model == {"name": "SmolLM2-135M-Instruct"}

    points = json.loads(paths["pareto.json"].read_text())
    assert len(points) == len(result.front)
    for written, point in zip(points, result.front, strict=True):
        assert point.validation is not None
        again = Measurement.from_dict(written)
        assert again.metrics == point.calibration.metrics
        assert again.config.digest == written["digest"] == point.calibration.config.digest
        assert list(again.samples) == list(point.calibration.samples)
        assert written["validation"]["metrics"] == point.validation.to_dict()["metrics"]
        assert (written["trial"], written["source"], written["feasible"]) == (point.trial, point.source, point.feasible)
        assert ("recommended" in written["roles"]) == (written["digest"] == result.recommended)


def test_whole_numbers_of_a_request_are_written_as_such() -> None:
    request = {"kv_memory": 6e7, "rate": 0.2, "maximums": {"kl_divergence": 1.0}, "objectives": ("a", "b"), "x": 1e300}
    written = results.request_yaml(request, None)
    assert "kv_memory: 60000000\n" in written
    assert "kl_divergence: 1\n" in written
    assert yaml.safe_load(written) == {**request, "objectives": ["a", "b"]}


def test_a_stale_recommendation_does_not_survive(
    tmp_path: Path, result: TuningResult, documents: Documents, job: dict[str, Any]
) -> None:
    write_results(tmp_path, result=result, documents=documents, job=job)
    nothing = dataclasses.replace(result, recommended=None, reason="nothing meets the constraints")
    paths = write_results(tmp_path, result=nothing, documents={}, job=job)
    assert "recommended.json" not in paths
    assert listing(tmp_path) == NAMES - {"recommended.json"}


def test_a_full_disk_changes_nothing(
    tmp_path: Path,
    result: TuningResult,
    documents: Documents,
    job: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_results(tmp_path, result=result, documents=documents, job=job)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}

    def full(path: Path, data: bytes) -> Path:
        if path.name == "report.html":
            raise StorageError("cannot be written (the disk is full)", field=str(path), remedy="free some space")
        return write_atomic(path, data)

    monkeypatch.setattr(results, "write_atomic", full)
    other = dataclasses.replace(result, recommended=None, front=result.front[:1])
    with pytest.raises(StorageError) as caught:
        write_results(tmp_path, result=other, documents={}, job=job)
    assert str(caught.value) == f"{tmp_path / 'report.html'}: cannot be written (the disk is full); free some space"
    assert listing(tmp_path) == NAMES
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before


def test_a_folder_that_cannot_be_one_is_refused(
    tmp_path: Path, result: TuningResult, documents: Documents, job: dict[str, Any]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StorageError, match="file"):
        write_results(file, result=result, documents=documents, job=job)
    assert file.read_text() == "mine"

    (tmp_path / "trials.csv").mkdir()
    with pytest.raises(StorageError, match=r"trials\.csv: is a folder"):
        write_results(tmp_path, result=result, documents=documents, job=job)
    assert listing(tmp_path) == {"file", "trials.csv"}


def test_numbers_that_json_lacks_are_null(
    tmp_path: Path, result: TuningResult, documents: Documents, job: dict[str, Any]
) -> None:
    point = result.front[0]
    broken = dataclasses.replace(point.calibration.metrics["kl_divergence"], worst=math.inf, std=math.nan)
    metrics = {**point.calibration.metrics, "kl_divergence": broken}
    odd = dataclasses.replace(point, calibration=dataclasses.replace(point.calibration, metrics=metrics))
    front = [odd, *result.front[1:]]
    paths = write_results(tmp_path, result=dataclasses.replace(result, front=front), documents=documents, job=job)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    written = json.loads(paths["pareto.json"].read_text(), parse_constant=refuse)
    assert written[0]["metrics"]["kl_divergence"]["worst"] is None


def test_the_csv_says_what_the_trials_say(result: TuningResult) -> None:
    awkward = 'a "quoted", comma\nand a line'
    first = dataclasses.replace(
        result.trials[0], source=awkward, params={"eviction": {"method": "none"}, "bits": [4, 2], awkward: 1.5}
    )
    trials = [first, *result.trials[1:]]
    rows = list(csv.DictReader(io.StringIO(trials_csv(trials), newline="")))
    assert len(rows) == len(trials)
    assert rows[0]["source"] == awkward
    assert rows[0]["params.eviction.method"] == "none"
    assert json.loads(rows[0]["params.bits"]) == [4, 2]
    assert float(rows[0][f"params.{awkward}"]) == 1.5
    for row, trial in zip(rows, trials, strict=True):
        assert (int(row["number"]), row["state"], row["reason"]) == (trial.number, trial.state, trial.reason or "")
        assert row["digest"] == (trial.config or CompressionConfig()).digest
        assert float(row["seconds"]) == trial.seconds
        for name in METRICS:
            if trial.measurement is not None and name in trial.measurement.metrics:
                assert float(row[name]) == trial.measurement.value(name)
            else:
                assert row[name] == ""
