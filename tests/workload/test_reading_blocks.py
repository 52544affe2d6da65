"""Hashes of prompts' blocks: the size of a block is told from the lengths, or said, and never guessed wrongly."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.errors import WorkloadError
from autokv.workload import read_trace, statistics_of
from autokv.workload.readers.blocks import fitting_size
from autokv.workload.readers.columns import Columns

CASES = Path(__file__).parents[3] / "shared/cases/traces"


def write(path: Path, *requests: tuple[int, list[Any]], timestamp: str = "timestamp") -> Path:
    lines = [
        json.dumps({timestamp: 1000 * place, "input_length": tokens, "output_length": 5, "hash_ids": hashes})
        for place, (tokens, hashes) in enumerate(requests)
    ]
    path.write_text("\n".join(lines))
    return path


def columns(tokens: list[int], counts: list[int]) -> Columns:
    inputs = np.array(tokens)
    return Columns(inputs, inputs, inputs, np.arange(len(tokens)) + 1, hash_counts=np.array(counts))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 100_000), min_size=3, max_size=30),
    st.sampled_from([16, 32, 64, 128, 256, 512, 1024, 37, 300]),
    st.booleans(),
)
def test_a_size_that_is_found_gives_the_counts_of_all_prompts(tokens: list[int], size: int, filled: bool) -> None:
    counts = [count // size if filled else -(-count // size) for count in tokens]
    found = fitting_size(columns(tokens, counts), 512)
    assert found is not None
    started = [-(-count // found) for count in tokens]
    whole = [count // found for count in tokens]
    hashed = [place for place, count in enumerate(counts) if count]
    assert all(started[place] == counts[place] for place in hashed) or all(
        whole[place] == counts[place] for place in hashed
    )


@pytest.mark.parametrize("size", [16, 64, 512, 48])
@pytest.mark.parametrize("filled", [False, True], ids=["the rest has a hash", "only filled blocks"])
def test_the_size_of_a_trace_of_many_lengths_is_found(tmp_path: Path, size: int, filled: bool) -> None:
    lengths = np.random.default_rng(0).integers(600, 20_000, 200).tolist()
    requests = [(tokens, list(range(tokens // size if filled else -(-tokens // size)))) for tokens in lengths]
    trace = read_trace(write(tmp_path / "a", *requests))
    assert trace.prefixes is not None
    assert trace.prefixes.block_tokens == size
    assert [len(trace.prefixes.of(row)) for row in range(200)] == [len(hashes) for _, hashes in requests]
    said = f"hashes are of blocks of {size} tokens, as the lengths say (--hash-block-size says another size)"
    assert trace.notes == (() if size == 512 else (said,))


def test_one_odd_row_among_many_is_cut(tmp_path: Path) -> None:
    requests = [(1024, [1, 2])] * 150 + [(1024, [1, 2, 3])]
    trace = read_trace(write(tmp_path / "a", *requests))
    assert trace.prefixes is not None
    assert trace.prefixes.of(150).tolist() == [1, 2]
    assert trace.notes == ("hashes left out: 1 prompt with more of them than blocks of 512 tokens",)


def test_hashes_that_fit_no_size_are_refused_with_the_option_that_says_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a b", (1000, [1, 2]), (1000, [1, 2, 3]), (2000, [1, 2]))
    with pytest.raises(WorkloadError, match="1,000 tokens have 3 hashes, and blocks of no size fit all rows") as caught:
        read_trace(path)
    assert caught.value.field == f"{path}:2"
    command = re.search("`(.*)`$", str(caught.value))
    assert command is not None
    assert shlex.split(command[1]) == ["autokv", "trace", "inspect", str(path), "--hash-block-size", "512"]
    trace = read_trace(path, hash_block_size=500)
    assert trace.prefixes is not None
    assert [len(trace.prefixes.of(row)) for row in range(3)] == [2, 2, 2]


def test_hashes_of_64_bits_without_a_sign_and_texts(tmp_path: Path) -> None:
    large = 2**64 - 5
    hashes: list[list[Any]] = [[large, 2, 3], [large, 2, 4], ["f3a9", "2", "3"], ["f3a9", "2", "4"]]
    trace = read_trace(write(tmp_path / "a", *((40, each) for each in hashes)))
    assert trace.prefixes is not None
    first, second, third, fourth = (trace.prefixes.of(row).tolist() for row in range(4))
    assert first[:2] == second[:2] == [-5, 2]
    assert third[:2] == fourth[:2]
    assert third[2] != fourth[2]
    assert {*first} & {*third} == set()


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 1.5, None, [1]])
def test_other_hashes_make_a_bad_row(tmp_path: Path, value: object) -> None:
    with pytest.raises(WorkloadError, match="the hashes are not a list of integers of 64 bits or of texts"):
        read_trace(write(tmp_path / "a", (40, [value, 2, 3])))


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_a_real_trace_in_blocks_of_16_has_the_reuse_that_counting_gives() -> None:
    path = CASES / "mooncake_blocks_of_16.jsonl"
    seen: set[tuple[int, ...]] = set()
    reused = total = 0
    for line in path.read_text().splitlines():
        row = json.loads(line)
        hashes = row["hash_ids"]
        total += row["input_length"]
        # A block is there if the same block was there, behind the same blocks.
        there = next((n for n in range(len(hashes)) if tuple(hashes[: n + 1]) not in seen), len(hashes))
        reused += min(16 * there, row["input_length"])
        seen |= {tuple(hashes[: n + 1]) for n in range(there, len(hashes))}
    reuse = statistics_of(read_trace(path)).reuse
    assert reuse is not None
    assert reuse.share == pytest.approx(reused / total)
    assert reuse.share < 0.1


def test_a_size_that_is_said_wrongly_is_refused_with_the_one_that_fits(tmp_path: Path) -> None:
    path = write(tmp_path / "a b", (100, list(range(7))), (1600, list(range(100))), (33, [1, 2, 3]))
    with pytest.raises(WorkloadError, match=r"100 tokens have 7 hashes, more than they have blocks of 512") as caught:
        read_trace(path, hash_block_size=512)
    assert caught.value.field == f"{path}:1"
    command = re.search("`(.*)`$", str(caught.value))
    assert command is not None
    assert shlex.split(command[1]) == ["autokv", "trace", "inspect", str(path), "--hash-block-size", "16"]
    trace = read_trace(path, hash_block_size=16)
    assert trace.prefixes is not None
    assert trace.prefixes.block_tokens == 16
    assert trace.notes == ()


def test_fewer_hashes_than_blocks_of_the_size_that_is_said_are_worth_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a", *((1024 * count, list(range(2 * count))) for count in range(1, 5)))
    assert read_trace(path, hash_block_size=512).notes == ()
    trace = read_trace(path, hash_block_size=64)
    assert trace.prefixes is not None
    assert trace.prefixes.block_tokens == 64
    said = (
        "warning: 100% of the prompts have fewer hashes than blocks of 64 tokens; blocks of 512 tokens fit the lengths"
    )
    assert trace.notes == (said,)
