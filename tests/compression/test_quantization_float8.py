"""e4m3: every bit pattern, the error bound, and the ends of the range."""

from __future__ import annotations

import pytest
import torch

from autokv.kernels import Float8, Rows
from autokv.kernels.quantize_pack import dequantize, quantize_float8
from autokv.kernels.reference import float8_value


def test_every_bit_pattern() -> None:
    finite = [code for code in range(256) if code & 0x7F != 0x7F]
    packed = Float8(torch.tensor(finite, dtype=torch.uint8)[:, None], torch.tensor([1.0]))
    expected = torch.tensor([float8_value(code) for code in finite])
    assert torch.equal(dequantize(packed, Rows(1, len(finite))).flatten(), expected)
    assert torch.equal(torch.tensor(finite, dtype=torch.uint8).view(torch.float8_e4m3fn).float(), expected)


def test_error_is_within_the_format() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 41, 24) * torch.tensor([1e-3, 1.0, 1e4])[:, None, None]
    packed = quantize_float8(x, Rows(3, 41))
    torch.testing.assert_close(packed.scale, x.abs().amax((1, 2)) / 448)
    error = (dequantize(packed, Rows(3, 41)) - x).abs()
    # Half a step of 3 mantissa bits, or half the smallest subnormal.
    assert (error <= torch.maximum(x.abs() * 2**-4, packed.scale[:, None, None] * 2**-10) * 1.001).all()


@pytest.mark.parametrize("value", [0.0, 1e-40, 1e-20, 3e38, -3e38])
def test_ends_of_the_range_stay_finite(value: float) -> None:
    x = torch.full((1, 3, 8), value)
    x[0, 0, 0] = 0
    torch.testing.assert_close(dequantize(quantize_float8(x, Rows(1, 3)), Rows(1, 3)), x, rtol=1e-3, atol=1e-37)


def test_ragged_rows_have_their_own_scale() -> None:
    torch.manual_seed(1)
    lengths = [4, 0, 7]
    flat = torch.randn(11, 8)
    flat[4:] *= 100
    rows = Rows.of_lengths(torch.tensor(lengths))
    packed = quantize_float8(rows.to_dense(flat), rows)
    assert packed.codes.shape == (11, 8)
    torch.testing.assert_close(packed.scale[[0, 2]], torch.stack([flat[:4].abs().max(), flat[4:].abs().max()]) / 448)
    assert ((rows.to_flat(dequantize(packed, rows)) - flat).norm(dim=1) < flat.norm(dim=1) * 0.05).all()


def test_no_tokens() -> None:
    packed = quantize_float8(torch.empty(2, 0, 8), Rows(2, 0))
    assert dequantize(packed, Rows(2, 0)).shape == (2, 0, 8)
