"""How a person names a device, and profiles that come from files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autokv.errors import RequestError
from autokv.hardware import HardwareProfile, Rate, find, finding, read_profile
from autokv.hardware.documents import MAX_PROFILE_BYTES
from autokv.hardware.finding import measured_file, measured_profiles

MEASURED = HardwareProfile(
    name="Imaginary 9000",
    kind="cpu",
    cores=2,
    memory_bytes=8 << 30,
    capabilities=("avx2",),
    torch_version="2.13.0",
    threads=2,
    copy_gb_per_s=Rate(1e-5, 0.5, 20),
    float32_gflops=Rate(100.0, 3.0, 20),
    bfloat16_gflops=Rate(200.0, 4.0, 20),
    launch_us=Rate(1.5, 0.1, 50),
)
FIRST_FIELDS = {
    "name",
    "kind",
    "cores",
    "memory_bytes",
    "capabilities",
    "torch_version",
    "threads",
    "copy_gb_per_s",
    "float32_gflops",
    "bfloat16_gflops",
    "fingerprint",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def keep(profile: HardwareProfile) -> Path:
    path = measured_file(profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(profile.to_dict()))
    return path


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("h100-sxm", "NVIDIA H100 SXM"),
        ("H100 SXM", "NVIDIA H100 SXM"),
        ("h100sxm", "NVIDIA H100 SXM"),
        ("h100_pcie", "NVIDIA H100 PCIe"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("rtx4090", "NVIDIA GeForce RTX 4090"),
        ("L4", "NVIDIA L4"),
        ("l40s", "NVIDIA L40S"),
        ("a10", "NVIDIA A10"),
        ("A100 80GB", "NVIDIA A100 80GB SXM"),
        ("  mi300x ", "AMD Instinct MI300X"),
        ("xeon", "Intel Xeon Platinum 8480+"),
        ("NVIDIA H200", "NVIDIA H200 SXM"),
    ],
)
def test_names_are_matched_loosely(said: str, meant: str) -> None:
    assert find(said).name == meant


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("a100", "could be a100-40gb-sxm, a100-80gb-sxm; say which"),
        ("h100", "could be h100-pcie, h100-sxm; say which"),
        ("h100-smx", "no device 'h100-smx' is known; did you mean h100-sxm"),
        ("", "no device '' is known"),
        ("--", "no device '--' is known"),
        ("abacus", "`autokv hardware list` has the names"),
    ],
)
def test_what_names_no_device_or_several(said: str, line: str) -> None:
    with pytest.raises(RequestError, match="hardware: ") as caught:
        find(said)
    assert line in str(caught.value)


def test_a_kept_measurement_is_found_by_fingerprint_and_name() -> None:
    keep(MEASURED)
    assert find(MEASURED.fingerprint) == find(MEASURED.fingerprint[:6]) == find("imaginary 9000") == MEASURED
    another = replace(MEASURED, cores=4)
    keep(another)
    with pytest.raises(RequestError, match="could be"):
        find("imaginary")
    assert find(another.fingerprint) == another


def test_files_in_the_cache_that_are_not_profiles_are_passed_over() -> None:
    keep(MEASURED).with_name("broken.json").write_text("{")
    assert measured_profiles() == {MEASURED.fingerprint: MEASURED}


def test_here_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_here", lambda device: replace(MEASURED, name=device))
    assert find("here").name == "auto"
    assert find("HERE", "cuda:1").name == "cuda:1"


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**MEASURED.to_dict(), "dtype": "float32"}))
    assert find(str(path)) == find(path) == MEASURED


def test_a_document_from_before_the_newer_fields_loads() -> None:
    old = {name: value for name, value in MEASURED.to_dict().items() if name in FIRST_FIELDS}
    assert HardwareProfile.from_dict(old) == replace(MEASURED, launch_us=None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"kind": "tpu"}, "kind"),
        ({"cores": 0}, "cores"),
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"copy_gb_per_s": {"median": 0.0, "spread": 0.0, "n": 1}}, "copy_gb_per_s.median"),
        ({"copy_gb_per_s": {"median": float("nan"), "spread": 0.0, "n": 1}}, "copy_gb_per_s.median"),
        ({"launch_us": {"median": 1.0, "n": 1}}, "launch_us.spread"),
        ({"float9_gflops": None}, "float9_gflops"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError, match=f"^hardware.{field}: .+; see docs/hardware.md"):
        HardwareProfile.from_dict({**MEASURED.to_dict(), **changes})


@settings(deadline=None)
@given(document=JSON | st.dictionaries(st.sampled_from(sorted(MEASURED.to_dict())), JSON))
def test_no_document_is_anything_but_a_profile_or_refused(document: object) -> None:
    whole = {**MEASURED.to_dict(), **document} if isinstance(document, dict) else document
    refusal = ""
    try:
        HardwareProfile.from_dict(whole)
    except RequestError as error:
        refusal = str(error)
    assert "\n" not in refusal


@given(data=st.binary(max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_is_anything_but_a_profile_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    with pytest.raises(RequestError) as caught:
        read_profile(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text(" " * (MAX_PROFILE_BYTES + 1))
    with pytest.raises(RequestError, match=r"big\.json: is larger than"):
        find(path)
    with pytest.raises(RequestError, match=r"none.json: cannot be read \(No such file"):
        find(tmp_path / "none.json")
