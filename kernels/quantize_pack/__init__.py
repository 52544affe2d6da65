"""Quantize, pack, unpack, dequantize."""

from __future__ import annotations

from typing import assert_never

from torch import Tensor

from autokv.kernels.operands import Float8, Integers, Packed, Plain
from autokv.kernels.quantize_pack.float8 import HALVES_SCALE, as_halves, dequantize_float8, quantize_float8
from autokv.kernels.quantize_pack.integers import HALF_MAX, dequantize_integers, quantize_integers
from autokv.kernels.rows import Rows

__all__ = ["HALF_MAX", "HALVES_SCALE", "as_halves", "dequantize", "quantize_float8", "quantize_integers"]


def dequantize(packed: Packed, rows: Rows) -> Tensor:
    """The coordinates, float32 ``[rows, longest, width]``; places beyond a row's end hold values of no meaning."""
    match packed:
        case Integers():
            return dequantize_integers(packed, rows)
        case Float8():
            return dequantize_float8(packed, rows)
        case Plain():
            return rows.to_dense(packed.data).float()
    assert_never(packed)
