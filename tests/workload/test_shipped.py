"""What ships with the package is what its notes say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from autokv.config import CompressionConfig
from autokv.data import FOLDER, builtin_text, example_trace
from autokv.tuning.request import TuningRequest
from autokv.workload import read_trace, write_azure_csv
from autokv.workload.synthesis import synthesize_example

EXAMPLES = Path(__file__).parents[2] / "examples"
NOVEL = Path(__file__).parents[3] / "shared/data/text/austen_persuasion.txt"


def test_the_example_trace_is_what_the_committed_function_makes(tmp_path: Path) -> None:
    write_azure_csv(synthesize_example(), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == example_trace().read_bytes()


def test_the_example_trace_is_moderate() -> None:
    trace = read_trace(example_trace())
    assert (trace.format, trace.rejected.count, len(trace)) == ("azure", 0, 400)
    summary = trace.summary()
    assert 600 <= summary.input_tokens["p50"] <= 800
    assert 1700 <= summary.input_tokens["p95"] <= 2300


def test_writing_and_reading_a_trace_gives_it_back(tmp_path: Path) -> None:
    made = synthesize_example()
    write_azure_csv(made, tmp_path / "trace.csv")
    read = read_trace(tmp_path / "trace.csv")
    assert read.input_tokens.tolist() == made.input_tokens.tolist()
    assert read.output_tokens.tolist() == made.output_tokens.tolist()
    assert read.arrival_s.tolist() == pytest.approx(made.arrival_s.tolist(), abs=1e-6)


def test_every_shipped_file_has_a_note_of_its_source() -> None:
    notes = (FOLDER / "SOURCES.txt").read_text()
    shipped = {path.name for path in FOLDER.iterdir() if path.suffix in {".txt", ".csv"}} - {"SOURCES.txt"}
    assert shipped == set(re.findall(r"^(\S+)$", notes, flags=re.MULTILINE))
    assert "synthesized" in example_trace().name


@pytest.mark.skipif(not NOVEL.exists(), reason="the novel is not here")
def test_the_builtin_text_is_an_excerpt_of_the_novel() -> None:
    text = builtin_text().read_text()
    assert 120_000 <= len(text) <= 200_000
    assert NOVEL.read_text().startswith(text.rstrip())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_example_configurations_are_valid(path: Path) -> None:
    assert not CompressionConfig.load(path).pipeline.is_identity


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_example_requests_are_valid(path: Path) -> None:
    assert TuningRequest.model_validate(yaml.safe_load(path.read_text())).trials > 0
