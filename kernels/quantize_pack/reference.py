"""Quantization spelled out, one value at a time, in Python's own float64: what every backend is held against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autokv.kernels.operands import Float8, Integers, Packed, Plain


def unpack_token(stored: list[int], bits: int, width: int) -> list[int]:
    """The codes of one token from its bytes."""
    if bits == 3:
        padded = math.ceil(width / 8) * 8
        low = unpack_token(stored[: padded // 4], 2, padded)
        high = stored[padded // 4 :]
        return [low[j] + 4 * (high[j % len(high)] >> (j // len(high)) & 1) for j in range(width)]
    step = len(stored)
    return [stored[j % step] >> (j // step * bits) & ((1 << bits) - 1) for j in range(width)]


def float8_value(code: int) -> float:
    """The value of an e4m3 bit pattern (bias 7, no infinities)."""
    sign, exponent, mantissa = -1.0 if code & 0x80 else 1.0, code >> 3 & 0xF, code & 7
    return sign * (mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10))


def dequantize_row(packed: Packed, row: int, start: int, stop: int, first_group: int) -> Tensor:
    """Float64 ``[stop - start, width]``: tokens ``start`` to ``stop`` of flat storage, which are row ``row``.

    ``first_group`` is where the row's groups start, for integers of axis ``channel``.
    """
    match packed:
        case Plain():
            return packed.data[start:stop].double()
        case Float8():
            scale = float(packed.scale[row])
            tokens = [[float8_value(code) * scale for code in token] for token in packed.codes[start:stop].tolist()]
        case Integers():
            scale_rows, minimum_rows = packed.scale.tolist(), packed.minimum.tolist()
            tokens = []
            for index in range(start, stop):
                codes = unpack_token(packed.codes[index].tolist(), packed.bits, packed.width)
                if packed.axis == "channel":
                    group = first_group + (index - start) // packed.group_size
                    places = [(group, channel) for channel in range(packed.width)]
                else:
                    places = [(index, channel // packed.group_size) for channel in range(packed.width)]
                tokens.append(
                    [code * scale_rows[i][j] + minimum_rows[i][j] for code, (i, j) in zip(codes, places, strict=True)]
                )
    width = packed.codes.shape[1] if isinstance(packed, Float8) else packed.width
    return torch.tensor(tokens, dtype=torch.float64).view(stop - start, width)
