"""Kernel tables of others: read where they are, between what was timed, and absent without a fuss."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autokv.hardware import find
from autokv.hardware.silicon import SiliconTables, tables_of


@pytest.fixture
def tables(silicon_tables: Path) -> SiliconTables:
    found = tables_of(find("h100-sxm"))
    assert found is not None
    return found


def test_the_newest_version_of_vllm_is_taken_with_the_devices_own_rates(tables: SiliconTables) -> None:
    assert tables.framework == "vllm/0.10.1"  # newer than 0.9.2, whatever the letters say
    assert (tables.bandwidth, tables.launch) == (0.5e12, 2e-6)
    assert "NVIDIA H100 80GB HBM3 with vllm 0.10.1" in tables.words


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 256), (100, 256), (100, 300), (24, 4096)])
def test_products_between_the_shapes_that_were_timed_follow_the_power_law(
    tables: SiliconTables, outputs: int, inputs: int
) -> None:
    for tokens, seconds in tables.gemm(outputs, inputs):
        assert seconds == pytest.approx(outputs * inputs * (1 + tokens / 100) / 1e9, rel=1e-6)


def test_a_matrix_beyond_the_largest_costs_in_proportion(tables: SiliconTables) -> None:
    large, twice = (dict(tables.gemm(outputs, 1024)) for outputs in (4096, 8192))
    assert twice == pytest.approx({tokens: 2 * seconds for tokens, seconds in large.items()})


@pytest.mark.parametrize(
    ("heads", "kv_heads"),
    [(4, 2), (8, 4), (12, 4), (6, 2), (32, 4), (16, 16), (12, 3)],
    ids=["timed", "timed", "between", "between", "more heads", "more KV heads", "three KV heads"],
)
def test_a_step_over_any_heads(tables: SiliconTables, heads: int, kv_heads: int) -> None:
    found = tables.decode_attention(heads, kv_heads, 16)
    assert found is not None
    for batch, times in found.items():
        for held, seconds in times:
            expected = batch * (heads + kv_heads * held / 100) / 1e6
            # More heads a group than were timed are taken in proportion, their bytes with them: an upper bound.
            assert seconds == pytest.approx(expected, rel=1e-6) or (heads == 32 and seconds > expected)


def test_fp8_reads_half_of_it(tables: SiliconTables) -> None:
    found = tables.decode_attention(4, 2, 16, kv_dtype="fp8")
    assert found is not None
    assert dict(found[8.0])[1024] == pytest.approx(8 * (4 + 2 * 1024 / 200) / 1e6)


def test_a_prompt_costs_by_its_query_heads(tables: SiliconTables) -> None:
    for heads in (4, 6, 32):
        found = tables.prefill_attention(heads, 2, 16)
        assert found is not None
        assert dict(found)[256] == pytest.approx(heads * 256 / 1e6)


def test_what_was_not_timed_is_none(tables: SiliconTables, silicon_tables: Path) -> None:
    assert tables.decode_attention(4, 2, 128) is None
    assert tables.prefill_attention(4, 2, 128) is None
    assert tables_of(find("l40s")) is None  # known to the catalog, without tables here
    assert tables_of(find("epyc-9654")) is None  # not known to any
    shutil.rmtree(silicon_tables / "data" / "h100_sxm" / "attention")
    assert tables_of(find("h100-sxm")) is None


def test_without_the_package_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autokv.hardware.silicon.PACKAGE", "no_such_package_here")
    assert tables_of(find("h100-sxm")) is None


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm", "a100-80gb-sxm", "l40s", "rtx-pro-6000-server"])
def test_the_package_itself_where_it_is_installed(name: str) -> None:
    """A product reads its weights once, at no more than the device's bandwidth; a step of a large batch its cache."""
    pytest.importorskip("aiconfigurator_core")
    profile = find(name)
    tables = tables_of(profile)
    assert tables is not None
    peak = 1e9 * profile.copy_gb_per_s.median
    one = tables.gemm(28672, 4096)[0][1]
    assert 2 * 28672 * 4096 / peak < one < 2 * 2 * 28672 * 4096 / peak
    steps = tables.decode_attention(32, 8, 128)
    assert steps is not None
    held = dict(steps[64.0])[4096]
    assert 64 * 4096 * 4096 / peak < held < 2.5 * 64 * 4096 * 4096 / peak
