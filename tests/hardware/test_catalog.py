"""The data sheets: all of them load, and none of them says what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autokv.errors import RequestError
from autokv.hardware import HardwareProfile, catalog, find, read_profile

NAMES = sorted(path.stem for path in Path(catalog.__file__).parent.glob("*.yaml"))
SHEET = """name: Imaginary 1
kind: cuda
cores: 10
memory_gib: 16
bandwidth_gb_per_s: 100
tera_per_s: {float32: 1, bfloat16: 2}
reference: a dream
"""


def profiles() -> list[HardwareProfile]:
    return [sheet.profile() for sheet in catalog.sheets().values()]


def test_the_common_devices_are_there() -> None:
    wanted = {"h200-sxm", "h100-sxm", "h100-pcie", "a100-40gb-sxm", "a100-80gb-sxm", "l40s", "l4", "a10", "rtx-4090"}
    assert set(catalog.sheets()) >= wanted | {"mi300x", "b200-sxm", "epyc-9654", "epyc-9554", "xeon-8480plus"}
    assert {profile.kind for profile in profiles()} == {"cpu", "cuda", "rocm"}


@pytest.mark.parametrize("name", NAMES)
def test_a_sheet_is_marked_as_one_and_says_where_it_is_from(name: str) -> None:
    sheet = catalog.sheets()[name]
    profile = find(name)
    assert profile == sheet.profile()
    assert profile.source == "data sheet"
    assert profile.copy_gb_per_s.n == profile.bfloat16_gflops.n == 0
    assert "https://" in profile.reference
    assert profile.capabilities == tuple(sorted(set(profile.capabilities)))


@pytest.mark.parametrize("name", NAMES)
def test_rates_are_dense_and_of_the_right_size(name: str) -> None:
    """Narrower numbers are not slower; a figure for sparse matrices would be twice what the neighbours allow."""
    profile = find(name)
    wide, half = profile.float32_gflops.median, profile.bfloat16_gflops.median
    assert half >= wide * 1.9
    if profile.float16_gflops is not None:
        assert profile.float16_gflops.median == half
    if profile.float8_gflops is not None:
        assert profile.float8_gflops.median == pytest.approx(2 * half, rel=0.02)
    assert ("fp8" in profile.capabilities) == (profile.float8_gflops is not None)
    assert profile.int8_gops is not None
    assert profile.int8_gops.median / half == pytest.approx(4 if name == "rtx-4090" else 2, rel=0.02)
    # Operations per byte at which 16-bit arithmetic and memory take equally long.
    assert (20 if profile.kind == "cpu" else 140) < half / profile.copy_gb_per_s.median < 800
    assert (profile.link_gb_per_s is None) == (profile.kind == "cpu")


def test_what_the_makers_say_of_some() -> None:
    h100, h200 = find("h100-sxm"), find("h200-sxm")
    assert h100.copy_gb_per_s.median == 3350
    assert h200.copy_gb_per_s.median / h100.copy_gb_per_s.median == pytest.approx(4.8 / 3.35)
    assert h100.memory_bytes == 80 << 30
    assert h100.bfloat16_gflops == h200.bfloat16_gflops
    assert find("a100-80gb-sxm").bfloat16_gflops.median == 312e3
    assert find("epyc-9654").copy_gb_per_s.median == pytest.approx(12 * 8 * 4.8), "channels, bytes, GT/s"


def test_fingerprints_and_names_are_of_one_device_each() -> None:
    every = profiles()
    assert len({profile.fingerprint for profile in every}) == len(every)
    reported = [name for sheet in catalog.sheets().values() for name in {sheet.name, *sheet.reported_names}]
    assert len(set(reported)) == len(reported)


def test_a_measured_device_finds_its_data_sheet_by_what_the_driver_calls_it() -> None:
    sheet = find("h100-sxm")
    measured = replace(sheet, name="NVIDIA H100 80GB HBM3", source="measured")
    assert catalog.sheet_of(measured) == sheet
    assert catalog.sheet_of(replace(measured, cores=16)) is None, "a part of the device"
    assert catalog.sheet_of(replace(measured, name="AMD EPYC")) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text.replace("100", "-1"), "bandwidth_gb_per_s"),
        (lambda text: text.replace("100", ".nan"), "bandwidth_gb_per_s"),
        (lambda text: text.replace("kind: cuda", "kind: abacus"), "kind"),
        (lambda text: text.replace("bfloat16: 2", "bfloat16: .inf"), "tera_per_s.bfloat16"),
        (lambda text: text.replace("bfloat16", "bfloat61"), "tera_per_s.bfloat16"),
        (lambda text: text + "colour: blue\n", "colour"),
        (lambda text: text.replace("reference: a dream\n", ""), "reference"),
    ],
)
def test_a_wrong_sheet_is_refused_with_the_field(tmp_path: Path, change: Callable[[str], str], named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SHEET)
    assert read_profile(path).copy_gb_per_s.median == 100
    path.write_text(change(SHEET))
    with pytest.raises(RequestError, match=f"mine.yaml.{named}:"):
        read_profile(path)
