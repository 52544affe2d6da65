"""Products with packed coordinates, a block of tokens at a time.

Codes become floats and nothing else: scales and minima are applied to queries, scores and weights, which are few, and
not to the codes. A block is small enough to stay in the processor's cache between its conversion and its product.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from autokv.kernels.operands import Float8, Integers, Packed, Plain
from autokv.kernels.quantize_pack import HALVES_SCALE, as_halves
from autokv.kernels.quantize_pack.packing import padded_width, unpack
from autokv.kernels.rows import Rows

_CACHED = 1 << 20
"""Floats of a block for every thread: four megabytes, where fewer calls outweigh a smaller cache."""
_AT_ONCE = 1 << 26
"""Floats of a block where there is no such cache."""


class _Kept(threading.local):
    """Buffers of one thread."""

    def __init__(self) -> None:
        self.buffers: dict[torch.dtype, Tensor] = {}


_KEPT = _Kept()


def scores(query: Tensor, packed: Packed, older: Rows) -> Tensor:
    """``query`` ``[rows, group, width]`` times the coordinates: ``[rows, group, longest]``, float32."""
    if not isinstance(packed, Integers):
        found = query.new_empty(*query.shape[:2], older.longest)
        scaled = query * _row_scale(packed)
        for start, stop, block in _blocks(packed, older):
            found[..., start:stop] = scaled @ block.mT
        return found
    by_axis = _scores_by_channel if packed.axis == "channel" else _scores_by_token
    return by_axis(query, packed, older, *_scales(packed, older))


def output(weights: Tensor, packed: Packed, older: Rows) -> Tensor:
    """``weights`` ``[rows, group, longest]`` times the coordinates: ``[rows, group, width]``, float32."""
    if not isinstance(packed, Integers):
        found = weights.new_zeros(*weights.shape[:2], _codes(packed).shape[1])
        for start, stop, block in _blocks(packed, older):
            found.baddbmm_(weights[..., start:stop], block)
        return found * _row_scale(packed)
    by_axis = _output_by_channel if packed.axis == "channel" else _output_by_token
    return by_axis(weights, packed, older, *_scales(packed, older))


def _scores_by_channel(query: Tensor, packed: Integers, older: Rows, scale: Tensor, minimum: Tensor) -> Tensor:
    """``scale`` and ``minimum``: ``[rows, groups, width]``."""
    rows, group, width = query.shape
    groups, size = scale.shape[1], packed.group_size
    found = query.new_empty(rows, group, groups, size)
    lowest = (query @ minimum.mT)[..., None]
    for start, stop, block in _blocks(packed, older):
        places = slice(start // size, -(-stop // size))
        scaled = (query[:, None] * scale[:, places, None]).view(-1, group, width)
        product = (scaled @ block.view(-1, size, width).mT).view(rows, -1, group, size)
        torch.add(product.transpose(1, 2), lowest[:, :, places], out=found[:, :, places])
    return found.flatten(2)[..., : older.longest]


def _scores_by_token(query: Tensor, packed: Integers, older: Rows, scale: Tensor, minimum: Tensor) -> Tensor:
    """``scale`` and ``minimum``: ``[rows, longest, groups]``."""
    rows, group, _ = query.shape
    inside = query.view(rows, group, -1, packed.group_size)
    scales = scale.permute(2, 0, 1).contiguous()
    found = inside.sum(dim=3) @ minimum.mT
    for start, stop, block in _blocks(packed, older):
        for part, one_scale, channels in zip(
            inside.unbind(2), scales, torch.split(block, packed.group_size, dim=2), strict=True
        ):
            found[..., start:stop].addcmul_(part @ channels.mT, one_scale[:, None, start:stop])
    return found


def _output_by_channel(weights: Tensor, packed: Integers, older: Rows, scale: Tensor, minimum: Tensor) -> Tensor:
    """``scale`` and ``minimum``: ``[rows, groups, width]``."""
    rows, group, tokens = weights.shape
    groups, size = scale.shape[1], packed.group_size
    padded = torch.nn.functional.pad(weights, (0, groups * size - tokens))
    grouped = padded.view(rows, group, groups, size).transpose(1, 2)
    found = grouped.sum(dim=3).mT @ minimum
    for start, stop, block in _blocks(packed, older):
        places = slice(start // size, -(-stop // size))
        product = grouped[:, places].reshape(-1, group, size) @ block.view(-1, size, packed.width)
        found += (product.view(rows, -1, group, packed.width) * scale[:, places, None]).sum(dim=1)
    return found


def _output_by_token(weights: Tensor, packed: Integers, older: Rows, scale: Tensor, minimum: Tensor) -> Tensor:
    """``scale`` and ``minimum``: ``[rows, longest, groups]``."""
    rows, group, _ = weights.shape
    scales = scale.permute(2, 0, 1).contiguous()
    found = weights.new_zeros(len(scales), rows, group, packed.group_size)
    for start, stop, block in _blocks(packed, older):
        for one, one_scale, channels in zip(found, scales, torch.split(block, packed.group_size, dim=2), strict=True):
            one.baddbmm_(weights[..., start:stop] * one_scale[:, None, start:stop], channels)
    return (found.permute(1, 2, 0, 3) + (weights @ minimum)[..., None]).flatten(2)


def _blocks(packed: Packed, older: Rows) -> Iterator[tuple[int, int, Tensor]]:
    """Tokens from, tokens to, and their codes as floats ``[rows, tokens, width]``, valid until the next.

    Of integers by channel, blocks are whole groups; what fills up the last group is finite.
    """
    codes = _codes(packed)
    width = packed.width if isinstance(packed, Integers) else codes.shape[1]
    multiple = packed.group_size if isinstance(packed, Integers) and packed.axis == "channel" else 1
    most = _CACHED * torch.get_num_threads() if codes.device.type == "cpu" else _AT_ONCE
    step = max(most // (older.count * width * multiple), 1) * multiple
    step = min(step, -(-older.longest // multiple) * multiple)
    if not step:
        return
    buffer = _buffer(older.count * step * width, torch.float32, codes.device)
    for start in range(0, older.longest, step):
        stop = min(start + step, older.longest)
        padded = -(-(stop - start) // multiple) * multiple
        block = buffer[: older.count * padded * width].view(older.count, padded, width)
        block[:, : stop - start].copy_(_numbers(packed, older.to_dense(codes, start, stop)))
        block[:, stop - start :] = 0
        yield start, stop, block


def _buffer(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Uninitialised; on CPU the thread's own, because fresh memory costs more than what is done with it here."""
    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    kept = _KEPT.buffers.get(dtype)
    if kept is None or len(kept) < size:
        # A tensor made in inference mode could not be written outside of it.
        with torch.inference_mode(False):
            kept = _KEPT.buffers[dtype] = torch.empty(size, dtype=dtype)
    return kept


def _codes(packed: Packed) -> Tensor:
    return packed.data if isinstance(packed, Plain) else packed.codes


def _numbers(packed: Packed, codes: Tensor) -> Tensor:
    """What ``codes`` ``[rows, tokens, bytes]`` stand for before scales, in any dtype, valid until the next call."""
    if isinstance(packed, Integers):
        size = codes.shape[:2].numel() * padded_width(packed.width, packed.bits)
        return unpack(codes, packed.bits, packed.width, _buffer(size, torch.uint8, codes.device))
    return as_halves(codes) if isinstance(packed, Float8) else codes


def _row_scale(packed: Plain | Float8) -> Tensor | float:
    return packed.scale.mul(HALVES_SCALE)[:, None, None] if isinstance(packed, Float8) else 1.0


def _scales(packed: Integers, older: Rows) -> tuple[Tensor, Tensor]:
    """Scale and minimum, float32, of every group of tokens or of every token, dense."""
    places = older.groups(packed.group_size) if packed.axis == "channel" else older
    return places.to_dense(packed.scale).float(), places.to_dense(packed.minimum).float()
