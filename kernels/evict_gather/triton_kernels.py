"""Compaction as device code."""

from __future__ import annotations

import triton
import triton.language as tl


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
