"""Decode attention in C over packed codes; in PyTorch where there is no compiler."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from autokv.kernels.decode_attention import Attention, eager
from autokv.kernels.native import library
from autokv.kernels.native.structures import Call, Stretch, stretches
from autokv.kernels.operands import Operands


def decode_attention(
    query: Tensor,
    parts: Sequence[Operands],
    scaling: float,
    *,
    softcap: float | None = None,
    sliding_window: int | None = None,
) -> Attention:
    """See :class:`autokv.kernels.decode_attention.DecodeAttention`; computed in float32."""
    run = library().decode_attention
    if run is None or query.device.type != "cpu":
        return eager.decode_attention(query, parts, scaling, softcap=softcap, sliding_window=sliding_window)
    batch, heads, head_dim = query.shape
    rows = parts[0].older.count
    floats = query.detach().float().contiguous()
    output = torch.empty(batch, heads, head_dim)
    lse = torch.empty(batch, heads)
    kept: list[Tensor] = []
    found = [stretch for part in parts for stretch in stretches(part, kept)]
    run(
        Call(
            query=floats.data_ptr(),
            output=output.data_ptr(),
            lse=lse.data_ptr(),
            stretches=ctypes.cast((Stretch * len(found))(*found), ctypes.POINTER(Stretch)),
            stretch_count=len(found),
            rows=rows,
            group=batch * heads // rows,
            head_dim=head_dim,
            sliding_window=sliding_window or 0,
            threads=torch.get_num_threads(),
            scaling=scaling,
            softcap=softcap or 0,
        )
    )
    return Attention(output.to(query.dtype), lse)
