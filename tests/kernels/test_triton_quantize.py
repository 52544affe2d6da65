"""Quantization in Triton against PyTorch's operators: the same bits, whatever the layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from autokv.kernels import Float8, Integers, Rows, backend
from autokv.kernels.backend import TORCH
from autokv.kernels.hadamard import rotate
from autokv.kernels.operands import Axis
from autokv.kernels.quantize_pack import dequantize
from autokv.kernels.triton_backend import triton_backend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TRITON = triton_backend(torch.device(DEVICE))


def by_triton(dense: torch.Tensor, rows: Rows, **form: Any) -> Integers:  # noqa: ANN401
    moved = Rows(rows.count, rows.longest, None if rows.offsets is None else rows.offsets.to(DEVICE))
    found = TRITON.quantize_integers(dense.to(DEVICE), moved, **form)
    return Integers(
        found.codes.cpu(), found.scale.cpu(), found.minimum.cpu(), found.bits, found.axis, found.group_size, found.width
    )


def poisoned(rows: Rows, width: int, dtype: torch.dtype, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense tokens whose places beyond a row's end repeat its last token, and the same with NaN there instead."""
    flat = torch.randn(int(rows.lengths.sum()), width, generator=torch.Generator().manual_seed(seed))
    flat[:, 0] += 7
    dense = rows.to_dense(flat.to(dtype))
    inside = rows.inside()
    return dense, dense if inside is None else dense.masked_fill(~inside[..., None], torch.nan)


def assert_same(found: Integers, expected: Integers) -> None:
    for name in ("codes", "scale", "minimum"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("axis", "group_size"), [("channel", 32), ("token", 16), ("token", 80)])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_codes_and_scales_are_those_of_pytorch_to_the_bit(
    bits: int, axis: Axis, group_size: int, dtype: torch.dtype
) -> None:
    rows = Rows.of_lengths(torch.tensor([19, 41]))
    dense, hostile = poisoned(rows, 80, dtype)
    form: dict[str, Any] = {"bits": bits, "axis": axis, "group_size": group_size}
    assert_same(by_triton(hostile, rows, **form), TORCH.quantize_integers(dense, rows, **form))


@pytest.mark.parametrize("width", [7, 13, 64, 96, 256])
@pytest.mark.parametrize("bits", [4, 3])
def test_any_width(bits: int, width: int) -> None:
    rows = Rows(2, 21)
    dense, _ = poisoned(rows, width, torch.float16)
    for axis, group_size in (("channel", 16), ("token", width)):
        form: dict[str, Any] = {"bits": bits, "axis": axis, "group_size": group_size}
        assert_same(by_triton(dense, rows, **form), TORCH.quantize_integers(dense, rows, **form))


@pytest.mark.parametrize("lengths", [(0, 0), (0, 5), (1, 1), (16, 17)])
def test_empty_rows_and_partial_groups(lengths: tuple[int, int]) -> None:
    rows = Rows.of_lengths(torch.tensor(lengths))
    dense = torch.randn(2, rows.longest, 32)
    for axis in ("channel", "token"):
        form: dict[str, Any] = {"bits": 2, "axis": axis, "group_size": 16}
        if not rows.longest:
            assert by_triton(dense, rows, **form).codes.shape == (0, 8)
        else:
            dense = rows.to_dense(rows.to_flat(dense))
            assert_same(by_triton(dense, rows, **form), TORCH.quantize_integers(dense, rows, **form))


@pytest.mark.parametrize("axis", ["channel", "token"])
def test_ties_constant_groups_and_values_beyond_float16(axis: str) -> None:
    dense = torch.arange(16 * 16).view(1, 16, 16).div(2)  # half of them midway between two codes of scale 1
    dense = torch.cat([dense % 15.5, torch.full((1, 16, 16), -3.3), dense * 1e5 - 5e6, dense * 1e30], dim=1)
    rows = Rows(1, dense.shape[1])
    form: dict[str, Any] = {"bits": 4, "axis": axis, "group_size": 16}
    assert_same(by_triton(dense, rows, **form), TORCH.quantize_integers(dense, rows, **form))


def test_a_view_is_read_where_it_lies() -> None:
    buffer = torch.randn(2, 3, 50, 32).half()
    rows = Rows(6, 40)
    form: dict[str, Any] = {"bits": 4, "axis": "channel", "group_size": 16}
    for view in (buffer.flatten(0, 1)[:, :40], torch.randn(6, 32, 40).mT):
        assert_same(by_triton(view, rows, **form), TORCH.quantize_integers(view.contiguous(), rows, **form))


@pytest.mark.parametrize("width", [64, 80])
@pytest.mark.parametrize("axis", ["channel", "token"])
def test_rotated_values_are_at_most_half_a_step_away(axis: Axis, width: int) -> None:
    rows = Rows.of_lengths(torch.tensor([37, 20]))
    dense, hostile = poisoned(rows, width, torch.bfloat16)
    found = by_triton(hostile, rows, bits=4, axis=axis, group_size=16, rotated=True)
    rotated = rows.to_flat(rotate(dense.float()))
    back = rows.to_flat(dequantize(found, rows))
    if axis == "channel":
        groups = rows.groups(16)
        scale = rows.to_flat(groups.to_dense(found.scale).repeat_interleave(16, dim=1)[:, : rows.longest])
    else:
        scale = found.scale.repeat_interleave(16, dim=1)
    assert ((back - rotated).abs() <= scale.float() * 0.5 + 1e-5).all()
    expected = TORCH.quantize_integers(dense, rows, bits=4, axis=axis, group_size=16, rotated=True)
    assert (found.codes == expected.codes).float().mean() > 0.99


def test_every_float8_and_the_middles_between_them() -> None:
    codes = torch.arange(0x7F, dtype=torch.uint8)
    values = codes.view(torch.float8_e4m3fn).float()  # 448 is among them: the scale is 1
    middles = (values[1:] + values[:-1]) / 2
    every = torch.cat([values, middles, middles.nextafter(values[1:]), middles.nextafter(values[:-1])])
    every = torch.cat([every, -every, torch.zeros(-2 * len(every) % 16)]).view(1, -1, 16)
    rows = Rows(1, every.shape[1])
    assert_same_float8(TRITON.quantize_float8(every.to(DEVICE), rows), TORCH.quantize_float8(every, rows))


@pytest.mark.parametrize("lengths", [(21, 21), (3, 41), (0, 41), (0, 0)])
def test_float8_of_ragged_rows(lengths: tuple[int, int]) -> None:
    rows = Rows.of_lengths(torch.tensor(lengths))
    dense, hostile = poisoned(rows, 80, torch.bfloat16)
    moved = Rows(rows.count, rows.longest, None if rows.offsets is None else rows.offsets.to(DEVICE))
    found = TRITON.quantize_float8(hostile.to(DEVICE), moved)
    expected = TORCH.quantize_float8(dense, rows)
    full = rows.lengths > 0
    assert torch.equal(found.codes.cpu(), expected.codes)
    assert torch.equal(found.scale.cpu()[full], expected.scale[full])
    # A row without tokens has a scale that later tokens can use.
    assert (found.scale.cpu()[~full] == 1).all()


def test_float8_with_a_scale_given_saturates() -> None:
    dense, scale = torch.randn(2, 9, 16) * 100, torch.tensor([0.01, 1.0])
    rows = Rows(2, 9)
    found = TRITON.quantize_float8(dense.to(DEVICE), rows, scale=scale.to(DEVICE))
    assert_same_float8(found, TORCH.quantize_float8(dense, rows, scale=scale))


def assert_same_float8(found: Float8, expected: Float8) -> None:
    assert torch.equal(found.scale.cpu(), expected.scale)
    assert torch.equal(found.codes.cpu(), expected.codes)


def test_the_backend_holds_these() -> None:
    assert backend(DEVICE, "triton") is TRITON
