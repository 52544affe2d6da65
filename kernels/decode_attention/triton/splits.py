"""How decode attention is cut into programs: tiles, and splits that fill the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from autokv.kernels.autotune import Launch
from autokv.kernels.decode_attention.triton.structures import Format
from autokv.kernels.triton_backend import interpreted, multiprocessors

_RESIDENT_WARPS = 12
"""Warps that one multiprocessor runs at once, about."""
_LEAST_TOKENS = 64
"""A split of fewer tokens is not worth the output that it leaves to be merged."""


@dataclass(frozen=True)
class Splits:
    """Splits of one part: how many, and how many tokens each takes."""

    older: int
    older_chunk: int
    window: int
    window_chunk: int


@lru_cache(maxsize=4096)
def split_tokens(
    blocks: int, longest: int, residual_tokens: int, step: int, warps: int, seen: int | None, device: torch.device
) -> Splits:
    """Cut the longest row's older tokens and the residual window so that ``blocks`` rows of programs fill ``device``.

    ``step``: chunks are multiples of it; ``warps``: of a program. ``seen``: no more than
    that many of a row's newest tokens are attended to.
    """
    older = longest if seen is None else min(longest, seen)
    places = max(multiprocessors(device) * _RESIDENT_WARPS // warps, 1)
    splits, chunk = _split(blocks, older, step, places)
    if seen is not None and splits and longest > seen:
        # The first visible token lies anywhere in its chunk.
        splits = min(splits + 1, -(-longest // chunk))
    window = residual_tokens if seen is None else min(residual_tokens, seen)
    return Splits(splits, chunk, *_split(blocks, residual_tokens, step, places) if window else (0, step))


@lru_cache(maxsize=4096)
def _split(blocks: int, tokens: int, step: int, places: int) -> tuple[int, int]:
    """How many splits, and tokens in each: the fewest that leave the last wave of programs least empty."""
    if tokens == 0:
        return 0, step
    steps = -(-tokens // step)
    least = max(_LEAST_TOKENS // step, 1)
    most = max(min(-(-steps // least), -(-2 * places // blocks)), 1)
    # A program's start and its share of the merge cost about as much as reading the least split.
    best = min(
        range(1, most + 1),
        key=lambda splits: -(-blocks * splits // places) * (-(-steps // splits) * step + _LEAST_TOKENS),
    )
    chunk = -(-steps // best)
    return -(-steps // chunk), chunk * step


def candidates(keys: Format, values: Format, group: int) -> tuple[Launch, ...]:
    """Launches to choose from, the first of which is good everywhere."""
    heads = 8 if group <= 8 else 16 if group <= 16 else 32 if group <= 32 else 64
    # Within a step all tokens of a channel share their scale.
    most = min([64, *(side.group_size for side in (keys, values) if side.axis == "channel")])
    if interpreted():
        return (Launch.of(warps=4, stages=1, HEADS=heads, TOKENS=32, NEWEST=32),)
    if heads > 16:
        choices = [(4, 32), (8, 64), (4, 64)]
    elif max(keys.width, values.width) > 128 or heads > 8 or keys.scattered or values.scattered:
        choices = [(2, 32), (2, 64), (1, 32), (4, 64)]
    else:
        choices = [(1, 32), (1, 64), (2, 64), (4, 64)]
    # A window's tile is kept small: its 16 bits must not take the shared memory that the packed codes leave.
    launches = (
        Launch.of(warps=warps, stages=3, HEADS=heads, TOKENS=min(tokens, most), NEWEST=32 if warps > 2 else 16)
        for warps, tokens in choices
    )
    return tuple(dict.fromkeys(launches))
