"""What is written is read back; what a format has no place for is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import PrefixBlocks, WorkloadTrace, read_trace, write_trace, writers

rows = st.lists(
    st.tuples(st.integers(0, 10**12), st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1, max_size=20
)


def trace_of(found: list[tuple[int, int, int]]) -> WorkloadTrace:
    """Rows of microseconds and tokens, the first at 0."""
    found = sorted(found)
    moments, inputs, outputs = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
    return WorkloadTrace("t", "test", (moments - moments[0]) / 1e6, inputs, outputs)


def with_blocks(tokens: int) -> WorkloadTrace:
    trace = trace_of([(0, 600, 5), (2500, 1100, 6)])
    prefixes = PrefixBlocks(tokens, np.array([0, 2, 5]), np.array([7, 8, 7, 9, 10]))
    return replace(trace, prefixes=prefixes, session=np.array([1, 1]), turn=np.array([1, 2]))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@given(rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_round_trip(tmp_path: Path, suffix: str, found: list[tuple[int, int, int]]) -> None:
    trace = trace_of(found)
    assert write_trace(trace, tmp_path / f"trace{suffix}") == ()
    read = read_trace(tmp_path / f"trace{suffix}")
    assert np.abs(read.arrival_s - trace.arrival_s).max() <= 1e-6
    assert read.input_tokens.tolist() == trace.input_tokens.tolist()
    assert read.output_tokens.tolist() == trace.output_tokens.tolist()
    assert read.rejected.count == 0


def test_blocks_of_mooncakes_size_are_written(tmp_path: Path) -> None:
    assert write_trace(with_blocks(512), tmp_path / "trace.jsonl") == ("sessions and turns",)
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert lines == [
        {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]},
        {"timestamp": 2.5, "input_length": 1100, "output_length": 6, "hash_ids": [7, 9, 10]},
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_has_no_place_is_said(tmp_path: Path, suffix: str) -> None:
    left_out = write_trace(with_blocks(16), tmp_path / f"trace{suffix}")
    assert left_out == ("sessions and turns", "hashes of blocks of 16 tokens")
    assert "hash_ids" not in (tmp_path / f"trace{suffix}").read_text()


@pytest.mark.parametrize(
    ("name", "as_format", "message"),
    [
        ("trace.xlsx", None, r"cannot write the file type '\.xlsx'; choose from \.parquet"),
        ("trace", "excel", "cannot write the format 'excel'"),
        ("file/trace.csv", None, "cannot be written"),
        ("folder.csv", None, "is not an ordinary file"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, as_format: str | None, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(WorkloadError, match=message) as caught:
        write_trace(trace_of([(0, 1, 1)]), tmp_path / name, as_format)
    assert "\n" not in str(caught.value)


def test_a_trace_may_replace_its_own_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_trace(trace_of([(0, 1, 1), (5, 2, 2)]), tmp_path / "trace.csv")
    write_trace(read_trace(tmp_path / "trace.csv"), tmp_path / "trace.csv")
    assert len(read_trace(tmp_path / "trace.csv")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["trace.csv"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(trace: WorkloadTrace, path: str | Path) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    (tmp_path / "trace.csv").write_text("old")
    monkeypatch.setitem(writers.WRITERS, "azure", fails)
    with pytest.raises(WorkloadError, match="the disk is full"):
        write_trace(trace_of([(0, 1, 1)]), tmp_path / "trace.csv")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_format_may_be_named(tmp_path: Path) -> None:
    write_trace(trace_of([(0, 1, 1)]), tmp_path / "trace.txt", "azure")
    assert (tmp_path / "trace.txt").read_text() == (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2000-01-01 00:00:00.0000000,1,1\n"
    )
