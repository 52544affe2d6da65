"""The kernel table: figures that follow from each other, and none for what is wrong or does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from autokv.evaluation import clock, kernel_table
from autokv.evaluation.kernel_shapes import BASIC, FORMATS
from autokv.evaluation.kernel_table import BASELINE, KernelFigures, KernelTable, Point
from autokv.kernels import Attention, Backend, Integers, Operands, backend

CPU = torch.device("cpu")
TORCH = backend(CPU, "torch")
POINT = Point("smollm2", 2, 150)


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evictions in these tests need not be thorough."""
    monkeypatch.setattr(clock, "last_level_cache_bytes", lambda device: 1 << 12)


def measured(kernels: Backend, formats: Sequence[str], point: Point = POINT) -> dict[str, KernelFigures]:
    rows = KernelTable(kernels, CPU, copy_gb_per_s=20.0, rounds=3).measure(point, formats)
    assert [row.format for row in rows] == [BASELINE, *formats]
    assert {row.point for row in rows} == {point}
    return {row.format: row for row in rows}


def test_figures_follow_from_bytes_and_times() -> None:
    rows = measured(TORCH, list(FORMATS))
    heads, tokens, width = 3, 150, 64
    full = 2 * 2 * heads * tokens * width * 2  # batch, keys and values, 16 bits
    assert rows[BASELINE].nbytes == rows["16-bit"].nbytes == full
    # Codes, and float16 scale and minimum: of 3 groups a channel for keys, of one group a token for values.
    for name, bits in (("int8", 8), ("int4", 4), ("int2", 2)):
        scales = 2 * heads * 2 * 2 * (3 * width + tokens)
        assert rows[name].nbytes == full * bits // 16 + scales
    assert 0.3 < rows["int4-ragged"].nbytes / rows["int4"].nbytes < 0.7
    base, float8 = rows[BASELINE].us, rows["fp8"].us
    assert base is not None
    assert float8 is not None
    for row in rows.values():
        assert row.us is not None, row
        assert row.us["n"] == 3
        assert row.us["p5"] <= row.us["p50"] <= row.us["p95"]
        assert row.gb_per_s == pytest.approx(row.nbytes / (row.us["p50"] * 1e-6) / 1e9)
        assert row.copy_share == pytest.approx((row.gb_per_s or 0) / 20)
        assert row.faster_than_16bit == pytest.approx(base["p50"] / row.us["p50"])
        assert row.faster_than_fp8 == pytest.approx(float8["p50"] / row.us["p50"])
        assert (row.error is None) == (row.format == BASELINE)
        assert (row.error or 0) < 5e-3


def spoiled(kernels: Backend, factor: float, *, in_batches: bool) -> Backend:
    """The backend, but what it makes of 4-bit keys is off, for single sequences or for the last of a batch."""

    def decode(query: Tensor, parts: Sequence[Operands], scaling: float, **options: float | None) -> Attention:
        output, lse = kernels.decode_attention(query, parts, scaling, **options)  # type: ignore[arg-type]
        packed = parts[0].keys.packed
        if isinstance(packed, Integers) and packed.bits == 4 and (len(query) > 1) == in_batches:
            output[-1] *= factor
        return Attention(output, lse)

    return replace(kernels, decode_attention=decode)


@pytest.mark.parametrize("factor", [1.02, float("nan")])
@pytest.mark.parametrize("in_batches", [False, True])
def test_what_is_wrong_gets_no_figure(factor: float, in_batches: bool) -> None:
    rows = measured(spoiled(TORCH, factor, in_batches=in_batches), ["int8", "int4"])
    wrong = rows["int4"]
    assert "wrong" in wrong.reason
    assert (wrong.us, wrong.gb_per_s, wrong.copy_share, wrong.faster_than_16bit) == (None,) * 4
    assert rows["int8"].us is not None


def test_what_cannot_run_says_why() -> None:
    def decode(query: Tensor, parts: Sequence[Operands], scaling: float, **options: float | None) -> Attention:
        raise RuntimeError("no such instruction\nand more")

    rows = measured(replace(TORCH, decode_attention=decode), ["int4"])
    assert rows["int4"].reason == "no such instruction"
    assert rows[BASELINE].us is not None


@pytest.mark.parametrize(("held", "timed"), [(100, 2), (3, 2), (1.2, 1), (0.5, 0)])
def test_memory_decides_what_is_timed_together(monkeypatch: pytest.MonkeyPatch, held: float, timed: int) -> None:
    """In units of the 16-bit cache: all together; one by one; only what is small; not even the baseline."""
    full = 2 * 2 * 3 * 150 * 64 * 2
    free = held * full / kernel_table.MEMORY_SHARE
    monkeypatch.setattr(kernel_table, "free_bytes", lambda device: free)
    together: list[int] = []
    interleaved = clock.ColdClock.interleaved

    def counted(self: clock.ColdClock, contenders: Sequence[object], rounds: int) -> list[list[float]]:
        together.append(len(contenders))
        return interleaved(self, contenders, rounds)  # type: ignore[arg-type]

    monkeypatch.setattr(clock.ColdClock, "interleaved", counted)
    rows = measured(TORCH, ["16-bit", "int2"])
    assert sum(rows[name].us is not None for name in ("16-bit", "int2")) == timed
    assert (rows[BASELINE].us is not None) == (held > 1)
    assert all("memory" in row.reason for row in rows.values() if row.us is None)
    assert together == {100: [3], 3: [3], 1.2: [2], 0.5: []}[held]


def test_a_group_is_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    full = 2 * 2 * 3 * 150 * 64 * 2
    free = 2.6 * full / kernel_table.MEMORY_SHARE  # the baseline, fp8 and 1.1 more
    monkeypatch.setattr(kernel_table, "free_bytes", lambda device: free)
    rows = measured(TORCH, BASIC)
    assert all(row.us is not None for row in rows.values())
    assert all(row.faster_than_fp8 is not None for row in rows.values())
