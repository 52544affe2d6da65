"""Small integers in bytes, half-split.

With ``n`` codes a byte, byte ``j`` holds channels ``j``, ``j + S``, ``j + 2 S`` ... from its lowest bits up, where
``S = ceil(width / n)``: 8 bit, one a byte; 4 bit, channel ``j`` beside ``j + S``; 2 bit, four a byte. 3 bit is a
2-bit plane of the low bits followed by a 1-bit plane of the high bits, the width of both rounded up to a multiple of
8. One byte load thus feeds channels of separate halves and nothing has to be interleaved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Shifts and masks work on the widest words that fit: a plane of a few bytes a token is too narrow a loop for bytes.
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def padded_width(width: int, bits: int) -> int:
    """Channels that are stored for ``width`` channels."""
    multiple = {8: 1, 4: 2, 3: 8, 2: 4}[bits]
    return -(-width // multiple) * multiple


def packed_bytes(width: int, bits: int) -> int:
    """Bytes that one token of ``width`` channels takes."""
    return padded_width(width, bits) * bits // 8


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack uint8 ``codes`` ``[..., width]``, each below ``2**bits``, to uint8 ``[..., bytes]``."""
    missing = padded_width(codes.shape[-1], bits) - codes.shape[-1]
    if missing:
        codes = torch.nn.functional.pad(codes, (0, missing))
    if bits == 8:
        return codes
    if bits == 3:
        return torch.cat([_pack_plane(codes & 3, 2), _pack_plane(codes >> 2, 1)], dim=-1)
    return _pack_plane(codes.contiguous(), bits)


def unpack(packed: Tensor, bits: int, width: int, out: Tensor | None = None) -> Tensor:
    """The uint8 codes ``[..., width]`` in uint8 ``packed`` ``[..., bytes]``, contiguous before any padding.

    Below 8 bits they are written to ``out``, at least as many bytes as there are codes with padding, if it is given.
    """
    if bits == 8:
        return packed
    shape = (*packed.shape[:-1], padded_width(width, bits))
    out = packed.new_empty(shape) if out is None else out.view(-1)[: math.prod(shape)].view(shape)
    if bits == 3:
        low_bytes = padded_width(width, 3) // 4
        _unpack_plane(packed[..., :low_bytes], 2, out)
        high = _unpack_plane(packed[..., low_bytes:], 1, torch.empty_like(out))
        return out.add_(high, alpha=4)[..., :width]
    return _unpack_plane(packed, bits, out)[..., :width]


def _pack_plane(codes: Tensor, bits: int) -> Tensor:
    word = math.gcd(8, codes.shape[-1] * bits // 8)
    packed, *parts = codes.view(_WORDS[word]).chunk(8 // bits, dim=-1)
    for place, part in enumerate(parts, start=1):
        packed = packed | part << (place * bits)
    return packed.contiguous().view(torch.uint8)


def _unpack_plane(packed: Tensor, bits: int, out: Tensor) -> Tensor:
    """The codes in every byte of ``packed``, written to contiguous ``out``."""
    word = math.gcd(8, packed.shape[-1])
    if packed.stride(-1) != 1 or any(place % word for place in (packed.storage_offset(), *packed.stride()[:-1])):
        # Not contiguous(), which keeps the strides of sizes of one.
        packed = packed.clone(memory_format=torch.contiguous_format)
    words = packed.view(_WORDS[word])
    mask = int.from_bytes(bytes([(1 << bits) - 1] * word), "little")
    codes = out.view(_WORDS[word])
    for place, part in enumerate(codes.chunk(8 // bits, dim=-1)):
        torch.bitwise_right_shift(words, place * bits, out=part)
    codes.bitwise_and_(mask)
    return out
