"""What the probe says of this machine, and what identifies one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from autokv.errors import RequestError
from autokv.hardware import HardwareProfile, Rate, measuring, probe

CPUINFO = """processor\t: 0
model name\t: Imaginary 9000
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 nonsense

processor\t: 1
model name\t: Another
"""


@pytest.fixture(scope="module")
def profile() -> HardwareProfile:
    return probe("cpu")


def test_the_cpu_is_described_as_this_process_may_use_it(profile: HardwareProfile) -> None:
    assert profile.kind == "cpu"
    assert profile.name
    assert profile.cores == len(os.sched_getaffinity(0))
    assert 0 < profile.memory_bytes <= psutil.virtual_memory().total
    assert profile.capabilities == tuple(sorted(set(profile.capabilities)))
    assert profile.torch_version == torch.__version__


def test_every_rate_was_measured(profile: HardwareProfile) -> None:
    for rate in (profile.copy_gb_per_s, profile.float32_gflops, profile.bfloat16_gflops):
        assert rate.median > 0
        assert rate.spread >= 0
        assert 2 <= rate.n <= measuring.MAX_RUNS


def test_a_rate_does_not_count_what_other_processes_take() -> None:
    """Each run is held up for a tenth of a second."""
    assert max(measuring._seconds(lambda: time.sleep(0.1), torch.device("cpu"))) < 0.05


def test_profile_is_frozen_and_json(profile: HardwareProfile) -> None:
    document = json.loads(json.dumps(profile.to_dict()))
    assert document["fingerprint"] == profile.fingerprint
    assert document["copy_gb_per_s"]["median"] == profile.copy_gb_per_s.median
    with pytest.raises(FrozenInstanceError):
        profile.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "measured",
    [
        {"copy_gb_per_s": Rate(1.0, 0.1, 3)},
        {"float32_gflops": Rate(1.0, 0.1, 3)},
        {"bfloat16_gflops": Rate(1.0, 0.1, 3)},
        {"torch_version": "0.1"},
        {"threads": 99},
    ],
)
def test_measurements_and_versions_do_not_change_the_fingerprint(
    profile: HardwareProfile, measured: dict[str, Any]
) -> None:
    assert replace(profile, **measured).fingerprint == profile.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        {"name": "another"},
        {"kind": "cuda"},
        {"cores": 1000},
        {"memory_bytes": 1 << 50},
        {"capabilities": ("sm_90",)},
    ],
)
def test_other_hardware_has_another_fingerprint(profile: HardwareProfile, other: dict[str, Any]) -> None:
    assert replace(profile, **other).fingerprint != profile.fingerprint


def test_measuring_leaves_the_callers_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    probe("cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda:97"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(RequestError, match=f"'{device}' is not here"):
        probe(device)


def test_rates_are_work_over_time_with_median_and_quartiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that makes the timed runs take 1, 2, 4, 5 and 10 seconds, then says that the time is over."""
    seconds = iter([1.0, 2.0, 4.0, 5.0, 10.0])

    def ticks() -> Iterator[float]:
        yield 0.0  # the run that warms up has ended
        yield -measuring.SECONDS_PER_RATE  # the end is at 0
        for number, length in enumerate(seconds):
            if number >= 2:
                yield -1.0 if number < 5 else 0.0  # asked whether time is left, from the third run on
            yield 0.0
            yield length
        yield 0.0

    clock = ticks()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(measuring, "clock_of", lambda device: lambda: next(clock))
    runs: list[int] = []
    rate = measuring._rate(lambda: runs.append(1), 20.0, torch.device("cpu"))
    assert len(runs) == 6  # one to warm up
    assert rate == Rate(median=5.0, spread=6.0, n=5)  # of 20, 10, 5, 4 and 2


def test_cpuinfo_is_read_from_the_first_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/cpuinfo": CPUINFO, "/sys/fs/cgroup/memory.max": "1048576\n"}
    monkeypatch.setattr(measuring, "_read", lambda path: files.get(path, ""))
    found = measuring.cpu()
    assert found.name == "Imaginary 9000"
    assert found.capabilities == ("amx_bf16", "avx2", "avx512", "bf16")
    assert found.memory_bytes == 1 << 20


def test_a_container_without_a_limit_has_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_read", lambda path: "max\n" if path.endswith("memory.max") else "")
    found = measuring.cpu()
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.name
    assert found.capabilities == ()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((7, 5), ("float16", "sm_75")),
        ((8, 0), ("bf16", "float16", "sm_80")),
        ((8, 9), ("bf16", "float16", "fp8", "sm_89")),
        ((9, 0), ("bf16", "float16", "fp8", "sm_90")),
    ],
)
def test_capabilities_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], expected: tuple[str, ...]
) -> None:
    major, minor = version
    properties = SimpleNamespace(name="GPU", major=major, minor=minor, multi_processor_count=132, total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    assert measuring.cuda(torch.device("cuda")) == measuring.System("GPU", 132, 80 << 30, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_probed() -> None:
    profile = probe("cuda")
    assert profile.kind == ("rocm" if torch.version.hip else "cuda")
    assert profile.copy_gb_per_s.median > 10
    assert profile.float16_gflops is not None
    assert profile.link_gb_per_s is not None
    assert profile.link_gb_per_s.median < profile.copy_gb_per_s.median
    assert profile.launch_us is not None


def test_what_this_device_cannot_do_has_no_rate(profile: HardwareProfile) -> None:
    assert profile.link_gb_per_s is None
    assert profile.float8_gflops is None
    assert (profile.float16_gflops is not None) == ("float16" in profile.capabilities)
    assert profile.launch_us is not None
    assert 0.01 < profile.launch_us.median < 10_000
    assert HardwareProfile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_an_operation_that_torch_lacks_is_left_out() -> None:
    def missing(_device: torch.device) -> Rate:
        raise RuntimeError("not implemented for this device")

    assert measuring._if_there(missing, torch.device("cpu")) is None


def test_the_time_of_a_launch_is_a_share_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_seconds", lambda _run, _device: [0.001, 0.002, 0.004])
    rate = measuring._launch_time(torch.device("cpu"))
    assert rate.median == pytest.approx(2e3 / measuring.LAUNCHES)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("gfx942:sramecc+:xnack-", ("bf16", "float16", "fp8", "gfx942")),
        ("gfx90a", ("bf16", "float16", "gfx90a")),
    ],
)
def test_capabilities_of_a_rocm_device(
    monkeypatch: pytest.MonkeyPatch, architecture: str, expected: tuple[str, ...]
) -> None:
    properties = SimpleNamespace(
        name="GPU", gcnArchName=architecture, multi_processor_count=304, total_memory=192 << 30
    )
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    assert measuring.cuda(torch.device("cuda")) == measuring.System("GPU", 304, 192 << 30, expected)
