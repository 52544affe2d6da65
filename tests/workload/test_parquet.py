"""The project's own Parquet form gives back every field, and refuses what is not one."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import PrefixBlocks, RejectedRows, WorkloadTrace, read_trace
from autokv.workload.parquet import write_parquet

COUNT = 50


def example(seed: int = 0, requests: int = COUNT) -> WorkloadTrace:
    """A trace with everything that a trace can have."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, requests)
    return WorkloadTrace(
        name="größe",
        format="bailian",
        arrival_s=np.sort(rng.exponential(1.0, requests)),
        input_tokens=rng.integers(1, 100, requests),
        output_tokens=rng.integers(1, 100, requests),
        rejected=RejectedRows(3, (4, 5, 9), "no tokens"),
        prefixes=PrefixBlocks(
            16, np.concatenate([[0], np.cumsum(counts)]), rng.integers(-(2**63), 2**63 - 1, int(counts.sum()))
        ),
        session=rng.integers(0, 5, requests),
        turn=rng.integers(1, 9, requests),
        delay_s=np.where(rng.random(requests) < 0.5, np.nan, rng.exponential(3.0, requests)),
        notes=("a note", "another"),
        lines=rng.permutation(requests) + 1,
    )


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    if isinstance(one, PrefixBlocks) and isinstance(other, PrefixBlocks):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    return one == other


def assert_same(one: WorkloadTrace, other: WorkloadTrace) -> None:
    assert [field.name for field in fields(one) if not same(getattr(one, field.name), getattr(other, field.name))] == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_every_field_comes_back(tmp_path_factory: pytest.TempPathFactory, seed: int, requests: int) -> None:
    path = tmp_path_factory.mktemp("trace") / "renamed.csv"
    trace = example(seed, requests)
    write_parquet(trace, path)
    assert_same(read_trace(path), trace)


def test_a_plain_trace_comes_back(tmp_path: Path) -> None:
    trace = WorkloadTrace("plain", "vidur", np.zeros(2), np.array([5, 6]), np.array([7, 8]))
    write_parquet(trace, tmp_path / "a.parquet")
    assert_same(read_trace(tmp_path / "a.parquet"), trace)


def changed(path: Path, **columns: Any) -> None:  # noqa: ANN401 - whatever Arrow takes
    """Write the example with other columns; ``None`` drops one, ``document`` changes the metadata."""
    write_parquet(example(), path)
    table = pq.read_table(path)
    document = {**json.loads(table.schema.metadata[b"autokv"]), **columns.pop("document", {})}
    for name, column in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if column is not None:
            table = table.append_column(name, column)
    pq.write_table(table.replace_schema_metadata({b"autokv": json.dumps(document).encode()}), path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"input_tokens": pa.array([0] * COUNT)}, "row 1: the request makes no sense"),
        ({"output_tokens": pa.array([5] * 7 + [10**9] * (COUNT - 7))}, "row 8: the request makes no sense"),
        ({"arrival_s": pa.array([float(-index) for index in range(COUNT)])}, "row 2: the request"),
        ({"arrival_s": pa.array([0.0, float("nan")] * (COUNT // 2))}, "row 2: the request"),
        ({"turn": pa.array([0] * COUNT)}, "row 1: the request"),
        ({"delay_s": pa.array([-1.0] * COUNT)}, "row 1: the request"),
        ({"delay_s": pa.array([float("inf")] * COUNT)}, "row 1: the request"),
        ({"input_tokens": None}, "has no column input_tokens"),
        ({"input_tokens": pa.array(["5"] * COUNT)}, "column input_tokens is string, not int64"),
        ({"input_tokens": pa.array([5, None] * (COUNT // 2))}, "column input_tokens has missing values"),
        ({"hash_ids": pa.array([[1, None]] * COUNT)}, "column hash_ids has missing values"),
        ({"hash_ids": pa.array([[1.5]] * COUNT)}, "column hash_ids is list"),
        ({"document": {"schema": "autokv.trace/v9"}}, "has the schema 'autokv.trace/v9', not 'autokv.trace/v1'"),
        ({"document": {"rejected": None}}, "its metadata is damaged"),
        ({"document": {"block_tokens": 0}}, "its metadata is damaged .block_tokens"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    changed(tmp_path / "a", **columns)
    with pytest.raises(WorkloadError, match=message) as caught:
        read_trace(tmp_path / "a")
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_other_parquet_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"when": [1.0], "prompt": [5], "gen": [5]}), tmp_path / "a")
    with pytest.raises(
        WorkloadError,
        match=r"unrecognized.*--column input_tokens=prompt --column output_tokens=gen --column arrival=when`$",
    ):
        read_trace(tmp_path / "a")
    pq.write_table(pa.table({"input_tokens": pa.array([], pa.int64())}), tmp_path / "a")
    with pytest.raises(WorkloadError, match="is empty"):
        read_trace(tmp_path / "a")
    write_parquet(example(), tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    for length in (4, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c").write_bytes(whole[:length])
        with pytest.raises(WorkloadError, match="cannot be read as Parquet"):
            read_trace(tmp_path / "c")


def test_a_column_whose_name_is_no_text_is_damage(tmp_path: Path) -> None:
    write_parquet(example(), tmp_path / "a")
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes().replace(b"input_tokens", b"\x80nput_tokens"))
    with pytest.raises(WorkloadError, match="cannot be read as Parquet"):
        read_trace(tmp_path / "b")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_one_line_or_a_trace(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("trace") / "a"
    write_parquet(example(), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        trace = read_trace(path)
    except WorkloadError as error:
        lines = str(error).count("\n")
    else:
        lines = 0
        assert len(trace) == len(trace.input_tokens) > 0
    assert lines == 0


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_tables_of_others(tmp_path: Path, unit: str, zone: str | None) -> None:
    start = 1_715_299_200 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    step = start // 1_715_299_200
    table = pa.table(
        {
            "TIMESTAMP": pa.array([start, start + 2 * step], pa.timestamp(unit, zone)),
            "ContextTokens": pa.array([2162, 2399], pa.int32()),
            "GeneratedTokens": pa.array([5.0, 6.0]),
            "raw": pa.array([b"\0", b"\1"]),
        }
    )
    pq.write_table(table, tmp_path / "a")
    trace = read_trace(tmp_path / "a")
    assert (trace.arrival_s.tolist(), trace.input_tokens.tolist()) == ([0, 2], [2162, 2399])
    assert trace.output_tokens.tolist() == [5, 6]
    assert trace.format == "table"


def test_other_parquet_with_named_columns_with_missing_values_and_nested_ones(tmp_path: Path) -> None:
    table = pa.table(
        {
            "t": pa.array([0.0, 1.5, float("nan")]),
            "usage": pa.array([{"in": 5, "out": 6}, {"in": 7, "out": 8}, {"in": 9, "out": 1}]),
            "who": pa.array(["a", "b", "a"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a")
    columns = {"arrival": "t", "input_tokens": "usage.in", "output_tokens": "usage.out", "session": "who"}
    trace = read_trace(tmp_path / "a", columns=columns, max_rejected_share=0.5)
    assert (trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.rejected.lines) == ([0, 1.5], [5, 7], (3,))


def test_a_mooncake_trace_as_parquet_is_read_as_one(tmp_path: Path) -> None:
    rows = [{"timestamp": 0, "input_length": 40, "output_length": 3, "hash_ids": [1, 2, 3]},
            {"timestamp": 500, "input_length": 33, "output_length": 4, "hash_ids": [1, 2, 4]}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a")
    trace = read_trace(tmp_path / "a")
    assert trace.prefixes is not None
    assert (trace.format, trace.prefixes.block_tokens, trace.prefixes.of(1).tolist()) == ("mooncake", 16, [1, 2, 4])


def test_a_parquet_of_others_that_is_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"prompt_tokens": [5] * 9000, "completion_tokens": [5] * 9000}), tmp_path / "a")
    monkeypatch.setattr("autokv.workload.source.MAX_TRACE_BYTES", 100_000)
    with pytest.raises(WorkloadError, match="more than the limit of 100000 bytes"):
        read_trace(tmp_path / "a")
