"""What every other backend is held against: float64, one row or one value at a time. Slow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from autokv.kernels.decode_attention import Attention
from autokv.kernels.operands import Float8, Integers, Operands, Packed, Plain, Side


def decode_attention(
    query: Tensor,
    parts: Sequence[Operands],
    scaling: float,
    *,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> Attention:
    """See :class:`autokv.kernels.decode_attention.DecodeAttention`; on tokens that are rebuilt one value at a time."""
    head_dim = query.shape[-1]
    queries = query.double().reshape(parts[0].older.count, -1, head_dim)
    outputs, lses = [], []
    for row, row_query in enumerate(queries):
        keys = torch.cat([_row(part, part.keys, row) for part in parts])
        values = torch.cat([_row(part, part.values, row) for part in parts])
        if sliding_window is not None:
            keys, values = keys[-sliding_window:], values[-sliding_window:]
        scores = row_query @ keys.T * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        lses.append(scores.logsumexp(dim=-1))
        outputs.append(scores.softmax(dim=-1) @ values)
    output, lse = torch.stack(outputs), torch.stack(lses)
    return Attention(output.view(query.shape).to(query.dtype), lse.view(query.shape[:2]).float())


def attention_16bit(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.attention_16bit`."""
    group = query.shape[1] // keys.shape[1]
    keys, values = (side.double().repeat_interleave(group, dim=1) for side in (keys, values))
    weights = (query.double()[:, :, None] @ keys.mT * scaling).softmax(dim=-1)
    return (weights @ values)[:, :, 0].to(query.dtype)


def window_scores(query: Tensor, keys: Tensor, scaling: float, *, softcap: float | None = None) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.window_scores`; with the whole matrix of queries x tokens."""
    window, tokens, group = query.shape[2], keys.shape[2], query.shape[1] // keys.shape[1]
    scores = query.double() @ keys.double().repeat_interleave(group, dim=1).mT * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    positions = torch.arange(tokens, device=keys.device)
    scores = scores.masked_fill(positions > positions[tokens - window :, None], -torch.inf)
    received = scores.softmax(dim=-1).sum(dim=2)
    return received.view(len(keys), -1, group, tokens).mean(dim=2).float()


def evict_gather(tokens: Tensor, index: Tensor) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.evict_gather`; one token at a time."""
    gathered = torch.empty(*index.shape, tokens.shape[2], dtype=tokens.dtype, device=tokens.device)
    for row, places in enumerate(index.tolist()):
        for place, token in enumerate(places):
            gathered[row, place] = tokens[row, token]
    return gathered


def _row(part: Operands, side: Side, row: int) -> Tensor:
    """Float64 ``[tokens, head_dim]``: every token of one row."""
    starts = [0]
    for length in part.older.lengths.tolist():
        starts.append(starts[-1] + length)
    start, stop = starts[row], starts[row + 1]
    first_group = 0
    if isinstance(side.packed, Integers):
        size = side.packed.group_size
        first_group = sum(math.ceil((b - a) / size) for a, b in pairwise(starts[: row + 1]))
    tokens = dequantize_row(side.packed, row, start, stop, first_group)
    if (residual := side.low_rank_residual) is not None:
        tokens = tokens + residual.left[start:stop].double() @ residual.right[row].double().T
    if side.basis is not None:
        tokens = tokens @ side.basis[row].double().T
    elif side.rotated:
        tokens = tokens @ _hadamard(tokens.shape[1]).to(tokens.device)
    return torch.cat([tokens, side.residual_window[row].double()])


def _hadamard(width: int) -> Tensor:
    """Block-diagonal Sylvester matrix: entry (i, j) of a block has the sign of the parity of ``i & j``."""
    block = width & -width
    signs = [[(-1) ** (i & j).bit_count() for j in range(block)] for i in range(block)]
    return torch.eye(width // block, dtype=torch.float64).kron(torch.tensor(signs)) / math.sqrt(block)


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
