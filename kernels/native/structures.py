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
        *((name, c_void_p) for name in ("codes", "scale", "minimum", "left", "right", "basis")),
        ("row_bytes", c_int64),
        *((name, c_int32) for name in ("format", "width", "token_bytes", "per_token", "group_size", "rotated", "rank")),
        *((name, c_int32) for name in ("left_format", "right_format", "basis_format")),
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


def stretches(part: Operands) -> list[Stretch]:
    """The part's older tokens and its window, unless there are none."""
    found, older = [], part.older
    if older.longest:
        offsets = None if older.offsets is None else older.offsets.data_ptr()
        found.append(Stretch(_older(part.keys), _older(part.values), offsets, older.longest))
    if part.newest:
        found.append(Stretch(_window(part.keys.window), _window(part.values.window), None, part.newest))
    return found


def readable(part: Operands) -> bool:
    """Whether the kernel can read the part where it lies: contiguous storage, windows that are rows of tokens."""
    sides = (part.keys, part.values)
    windows = all(side.window.stride()[1:] == (part.head_dim, 1) for side in sides) or not part.newest
    return windows and all(tensor.is_contiguous() for side in sides for tensor in _stored(side))


def _stored(side: HeldSide) -> list[Tensor]:
    match side.packed:
        case Plain():
            packed = [side.packed.data]
        case Float8():
            packed = [side.packed.codes, side.packed.scale]
        case Integers():
            packed = [side.packed.codes, side.packed.scale, side.packed.minimum]
    return packed + [tensor for tensor in (side.basis, side.left, side.right) if tensor is not None]


def _older(side: HeldSide) -> Side:
    native = Side(rotated=side.rotated and side.basis is None)
    match side.packed:
        case Plain(data):
            native.codes, native.format = data.data_ptr(), _FLOATS[data.dtype]
            native.width = data.shape[1]
            native.token_bytes = data.shape[1] * data.itemsize
        case Float8(codes, scale):
            native.codes, native.scale, native.format = codes.data_ptr(), scale.data_ptr(), _FLOAT8
            native.width = native.token_bytes = codes.shape[1]
        case Integers() as packed:
            native.codes, native.format = packed.codes.data_ptr(), _INTEGERS[packed.bits]
            native.scale, native.minimum = packed.scale.data_ptr(), packed.minimum.data_ptr()
            native.width, native.token_bytes = packed.width, packed.codes.shape[1]
            native.per_token, native.group_size = packed.axis == "token", packed.group_size
    if side.left is not None and side.right is not None:
        native.left, native.left_format = side.left.data_ptr(), _FLOATS[side.left.dtype]
        native.right, native.right_format = side.right.data_ptr(), _FLOATS[side.right.dtype]
        native.rank = side.left.shape[1]
    if side.basis is not None:
        native.basis, native.basis_format = side.basis.data_ptr(), _FLOATS[side.basis.dtype]
    return native


def _window(window: Tensor) -> Side:
    return Side(
        codes=window.data_ptr(),
        row_bytes=window.stride(0) * window.itemsize,
        format=_FLOATS[window.dtype],
        width=window.shape[2],
        token_bytes=window.shape[2] * window.itemsize,
    )
