"""Quantization in Triton: the launches of :mod:`autokv.kernels.quantize_pack.triton_kernels`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autokv.kernels.autotune import Key, Launch, bucket, choose
from autokv.kernels.operands import Axis, Float8, Integers
from autokv.kernels.quantize_pack import E4M3_MAX, triton_kernels
from autokv.kernels.quantize_pack.packing import packed_bytes, padded_width
from autokv.kernels.rows import Rows
from autokv.kernels.triton_backend import interpreted

CODES_OF_A_BYTE = {8: 1, 4: 2, 3: 8, 2: 4}
"""Channels that one byte column takes in; of 3 bit, a byte of high bits and two of low ones."""
TILES = ((2048, 4), (4096, 8), (1024, 2))
"""Values of a tile, all of which stay in registers, and the warps that hold them; the first is good everywhere."""


@dataclass(frozen=True)
class _Tokens:
    """Tokens ``[rows, longest, width]`` as a kernel reads them."""

    dense: Tensor
    rows: Rows
    rotated: bool

    @property
    def total(self) -> int:
        rows = self.rows
        return rows.count * rows.longest if rows.offsets is None else int(rows.offsets[-1])

    def arguments(self) -> dict[str, Any]:
        """What every kernel takes."""
        dense, rows = self.dense, self.rows
        width = dense.shape[2]
        return {
            "tokens": dense,
            "row_stride": dense.stride(0),
            "token_stride": dense.stride(1),
            "offsets": rows.offsets,
            "longest": rows.longest,
            "WIDTH": width,
            "BLOCK": width & -width if self.rotated else 0,
            # The interpreter's time is that of its steps, however large they are.
            "DEPTH": max(16, bucket(width)) if interpreted() else 32,
            # 16-bit values and signs are exact in TensorFloat-32.
            "PRECISION": "tf32x3" if dense.dtype == torch.float32 else "tf32",
            "RAGGED": rows.offsets is not None,
            "enable_fp_fusion": False,
        }

    def key(self, *form: str | int) -> Key:
        dense, rows = self.dense, self.rows
        shape = (dense.shape[2], bucket(rows.count), bucket(rows.longest))
        return (str(dense.dtype).removeprefix("torch."), "rotated" if self.rotated else "plain", *form, *shape)


def quantize_integers(
    dense: Tensor, rows: Rows, *, bits: int, axis: Axis, group_size: int, rotated: bool = False
) -> Integers:
    """See :class:`autokv.kernels.backend.QuantizeIntegers`; the codes are those of PyTorch's.

    A rotation is summed in another order there, so a rotated value near the middle of two codes may take the other.
    """
    tokens = _Tokens(dense if dense.stride(2) == 1 else dense.contiguous(), rows, rotated)
    width, total = dense.shape[2], tokens.total
    groups = rows.groups(group_size)
    scales = (
        (groups.count * groups.longest if groups.offsets is None else int(groups.offsets[-1]), width)
        if axis == "channel"
        else (total, width // group_size)
    )
    codes = torch.empty(total, packed_bytes(width, bits), dtype=torch.uint8, device=dense.device)
    scale, minimum = torch.empty(2, *scales, dtype=torch.float16, device=dense.device)
    step = padded_width(width, bits) // CODES_OF_A_BYTE[bits]
    arguments = tokens.arguments() | {
        "codes": codes,
        "scale": scale,
        "minimum": minimum,
        "BITS": bits,
        "GROUP": group_size,
        "SPLITS": CODES_OF_A_BYTE[bits],
        "STEP": step,
        "BYTES": codes.shape[1],
    }
    key = tokens.key(bits, group_size)
    if rows.longest and axis == "channel":
        places = max(16, bucket(group_size))
        launch = choose("quantize_by_channel", key, _launches("COLUMNS", places, min(64, bucket(step))), dense.device)
        triton_kernels.quantize_by_channel[groups.longest, rows.count, -(-step // launch["COLUMNS"])](
            group_offsets=groups.offsets,
            longest_groups=groups.longest,
            PLACES=places,
            **arguments,
            **launch.arguments(),
        )
    elif rows.longest:
        columns, group_columns = max(16, bucket(step)), max(16, bucket(group_size))
        # Three tiles of bytes take the registers of two tiles of values.
        breadth = max(columns, group_columns) * (2 if bits == 3 else 1)
        launch = choose("quantize_by_token", key, _launches("PLACES", breadth), dense.device)
        triton_kernels.quantize_by_token[-(-rows.longest // launch["PLACES"]), rows.count](
            COLUMNS=columns, GROUP_COLUMNS=group_columns, **arguments, **launch.arguments()
        )
    return Integers(codes, scale, minimum, bits, axis, group_size, width)


def quantize_float8(dense: Tensor, rows: Rows, *, rotated: bool = False, scale: Tensor | None = None) -> Float8:
    """See :class:`autokv.kernels.backend.QuantizeFloat8`."""
    tokens = _Tokens(dense if dense.stride(2) == 1 else dense.contiguous(), rows, rotated)
    width = dense.shape[2]
    codes = torch.empty(tokens.total, width, dtype=torch.uint8, device=dense.device)
    columns = max(16, min(64, bucket(width)))
    launch = choose("float8", tokens.key(), _launches("PLACES", columns), dense.device)
    grid = (-(-rows.longest // launch["PLACES"]), rows.count, -(-width // columns))
    arguments = tokens.arguments() | {"COLUMNS": columns} | launch.arguments()
    if scale is None:
        largest = torch.zeros(rows.count, device=dense.device)
        if rows.longest:
            triton_kernels.largest_magnitude[grid](found=largest.view(torch.int32), **arguments)
        scale = largest.div(torch.full_like(largest, E4M3_MAX)).clamp_min_(torch.finfo(torch.float32).tiny)
        if rows.offsets is not None:
            scale.masked_fill_(rows.lengths == 0, 1.0)
        elif not rows.longest:
            scale.fill_(1.0)
    if rows.longest:
        triton_kernels.quantize_to_float8[grid](scale=scale, codes=codes, **arguments)
    return Float8(codes, scale)


def _launches(name: str, other: int, most: int = 64) -> list[Launch]:
    """Launches of tiles that are ``other`` values long one way and the size ``name`` the other way."""
    return [Launch.of(warps=warps, stages=1, **{name: max(16, min(values // other, most))}) for values, warps in TILES]
