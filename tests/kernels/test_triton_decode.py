"""The Triton kernels of decode attention as an H100 would get them, compiled without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from autokv.kernels import backend
from autokv.kernels.decode_attention.triton import splits
from autokv.kernels.decode_attention.triton.splits import split_tokens
from kernel_cases import Case, Form, attention_error

SHARED_MEMORY = 227 * 1024
"""Bytes that the blocks of a multiprocessor of an H100 share."""
REGISTERS = 65536
"""Of a multiprocessor."""
KERNEL_CODE = Path(__file__).parents[2] / "benchmarks" / "kernel_code.py"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    names = ("16 bit", "fp8", "int8", "int4", "int2", "int4, rotated", "int4, later step")
    cache = str(tmp_path_factory.mktemp("triton"))
    settings = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache, "PYTHONPATH": str(KERNEL_CODE.parent)}
    command = [sys.executable, str(KERNEL_CODE), *names, "--lines", "--candidates", "1"]
    run = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    found = [json.loads(line) for line in run.stdout.splitlines()]
    # A cache that has grown is attended to by the kernels that are there.
    assert {one["case"] for one in found} == set(names) - {"int4, later step"}
    return found


def test_no_kernel_spills_registers(compiled: list[dict[str, Any]]) -> None:
    assert [one for one in compiled if one["spilled"]] == []


def test_enough_warps_fit_a_multiprocessor(compiled: list[dict[str, Any]]) -> None:
    for one in compiled:
        if one["kernel"] == "split_kernel":
            by_registers = REGISTERS // (-(-one["registers"] // 8) * 8 * 32)
            by_memory = SHARED_MEMORY // (one["shared"] + 1024) * one["warps"]
            least = 6 if one["case"] == "16 bit" else 10
            assert min(by_registers, by_memory) >= least, one


def test_the_main_loop_is_what_a_gpu_wants(compiled: list[dict[str, Any]]) -> None:
    for one in compiled:
        if one["kernel"] == "split_kernel":
            assert one["matrix products"] > 0, one
            assert one["wide asynchronous copies"] > 0, one


@pytest.mark.parametrize("seen", [None, 1, 100, 5000])
@pytest.mark.parametrize("newest", [0, 1, 700])
@pytest.mark.parametrize("longest", [0, 1, 63, 64, 65, 4096, 100_003])
@pytest.mark.parametrize("blocks", [1, 8, 2048])
def test_splits_cover_what_is_seen(blocks: int, longest: int, newest: int, seen: int | None) -> None:
    splits = split_tokens(blocks, longest, newest, 64, 1, seen, torch.device("cpu"))
    assert splits.older_chunk % 64 == 0
    assert splits.window * splits.window_chunk >= newest
    # As the kernel counts: the first split starts at the chunk that holds the first token seen.
    first = 0 if seen is None else max(longest + newest - seen, 0)
    reached = (first // splits.older_chunk + splits.older) * splits.older_chunk
    assert reached >= longest or first >= longest
    assert (splits.older == 0) == (longest == 0)


@pytest.mark.parametrize(
    "case",
    [
        Case("ragged parts", Form(4, "channel", 64), Form(4, "token", 64), 128, 4, ((300, 170), (0, 64)), (0, 70)),
        Case("sliding", Form(8, "channel", 64), Form(3, "token", 64), 128, 7, ((200, 130),), (70,), sliding_window=123),
        Case("ranges", Form(4, "token", 32), Form(8, "token", 64), 128, 4, ((130, 190),), (1,)),
        Case("the other axes", Form(8, "token", 128), Form(2, "channel", 64), 128, 1, ((130, 70),), (0,)),
    ],
    ids=lambda case: case.name,
)
def test_as_many_splits_as_a_large_device_takes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "multiprocessors", lambda device: 132)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    splits.split_tokens.cache_clear()
    try:
        assert attention_error(case, backend(device, "triton"), device) <= case.limit
    finally:
        splits.split_tokens.cache_clear()
