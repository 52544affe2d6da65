"""The structures of ``coding.h`` and ``attention.c``, and operands as these."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from typing import ClassVar

import torch
from torch import Tensor

from autokv.kernels.operands import Float8, Integers, Operands, Plain
from autokv.kernels.operands import Side as HeldSide

_FLOATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_FLOAT8 = 3
_INTEGERS = {8: 4, 4: 5, 3: 6, 2: 7}


class Side(ctypes.Structure):
    """``Side``: how the keys or the values of a stretch are held."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("codes", "scale", "minimum", "low_rank_left", "low_rank_right", "basis")),
        ("row_bytes", c_int64),
        *((name, c_int32) for name in ("format", "width", "token_bytes", "per_token", "group_size", "rotated", "rank")),
        *((name, c_int32) for name in ("low_rank_left_format", "low_rank_right_format", "basis_format")),
    ]


class Stretch(ctypes.Structure):
    """``Stretch``: tokens of every row that are held alike."""

    _fields_: ClassVar = [("keys", Side), ("values", Side), ("offsets", c_void_p), ("length", c_int64)]


class Call(ctypes.Structure):
    """``Call``: the arguments of one decode attention."""

    _fields_: ClassVar = [
        *((name, c_void_p) for name in ("query", "output", "lse")),
        ("stretches", POINTER(Stretch)),
        *((name, c_int64) for name in ("stretch_count", "rows", "group", "head_dim", "sliding_window", "threads")),
        ("scaling", c_float),
        ("softcap", c_float),
    ]


def stretches(part: Operands, kept: list[Tensor]) -> list[Stretch]:
    """The part's older tokens and its residual window, unless there are none.

    Whatever the structures point to is put into ``kept``, which must live as long as they do.
    """
    found, older = [], part.older
    if older.longest:
        offsets = None if older.offsets is None else _address(older.offsets, kept)
        found.append(Stretch(_older(part.keys, kept), _older(part.values, kept), offsets, older.longest))
    if part.residual_tokens:
        keys, values = (_window(side.residual_window, kept) for side in (part.keys, part.values))
        found.append(Stretch(keys, values, None, part.residual_tokens))
    return found


def _address(tensor: Tensor, kept: list[Tensor]) -> int:
    """Where the elements of ``tensor`` lie one behind the other; they are copied if they do not yet."""
    kept.append(tensor.contiguous())
    return kept[-1].data_ptr()


def _older(side: HeldSide, kept: list[Tensor]) -> Side:
    native = Side(rotated=side.rotated and side.basis is None)
    match side.packed:
        case Plain(data):
            native.codes, native.format = _address(data, kept), _FLOATS[data.dtype]
            native.width = data.shape[1]
            native.token_bytes = data.shape[1] * data.itemsize
        case Float8(codes, scale):
            native.codes, native.scale, native.format = _address(codes, kept), _address(scale, kept), _FLOAT8
            native.width = native.token_bytes = codes.shape[1]
        case Integers() as packed:
            native.codes, native.format = _address(packed.codes, kept), _INTEGERS[packed.bits]
            native.scale, native.minimum = _address(packed.scale, kept), _address(packed.minimum, kept)
            native.width, native.token_bytes = packed.width, packed.codes.shape[1]
            native.per_token, native.group_size = packed.axis == "token", packed.group_size
    if (residual := side.low_rank_residual) is not None:
        native.low_rank_left, native.low_rank_left_format = _address(residual.left, kept), _FLOATS[residual.left.dtype]
        native.low_rank_right, native.low_rank_right_format = (
            _address(residual.right, kept),
            _FLOATS[residual.right.dtype],
        )
        native.rank = residual.left.shape[1]
    if side.basis is not None:
        native.basis, native.basis_format = _address(side.basis, kept), _FLOATS[side.basis.dtype]
    return native


def _window(window: Tensor, kept: list[Tensor]) -> Side:
    if window.stride(1) != window.shape[2] or window.stride(2) != 1:
        window = window.contiguous()
    kept.append(window)
    return Side(
        codes=window.data_ptr(),
        row_bytes=window.stride(0) * window.itemsize,
        format=_FLOATS[window.dtype],
        width=window.shape[2],
        token_bytes=window.shape[2] * window.itemsize,
    )
