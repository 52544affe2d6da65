"""Compaction in Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autokv.kernels.autotune import Launch, bucket, choose

# 16 bytes a thread at 16-bit widths of 64 and 128.
_LAUNCHES = (Launch.of(warps=4, PLACES=16), Launch.of(warps=8, PLACES=64), Launch.of(warps=2, PLACES=8))


def evict_gather(tokens: Tensor, index: Tensor) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.evict_gather`."""
    rows, count = index.shape
    width = tokens.shape[2]
    if tokens.stride(2) != 1:
        tokens = tokens.contiguous()
    gathered = torch.empty(rows, count, width, dtype=tokens.dtype, device=tokens.device)
    if gathered.numel():
        key = (str(tokens.dtype).removeprefix("torch."), width, bucket(rows), bucket(count))
        launch = choose("gather_tokens", key, _LAUNCHES, tokens.device)
        gather_tokens[-(-count // launch["PLACES"]), rows](
            tokens,
            tokens.stride(0),
            tokens.stride(1),
            index.contiguous(),
            count,
            gathered,
            WIDTH=width,
            COLUMNS=bucket(width),
            **launch.arguments(),
        )
    return gathered


@triton.jit
def gather_tokens(
    tokens,
    row_stride,
    token_stride,
    index,
    count,
    gathered,
    WIDTH: tl.constexpr,
    PLACES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``PLACES`` tokens of one row to where they belong."""
    row = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    channel = tl.arange(0, COLUMNS)
    token = tl.load(index + row * count + place, mask=place < count, other=0)
    mask = (place < count)[:, None] & (channel < WIDTH)[None, :]
    found = tl.load(tokens + row * row_stride + token[:, None] * token_stride + channel[None, :], mask=mask)
    tl.store(gathered + (row * count + place)[:, None] * WIDTH + channel[None, :], found, mask=mask)
