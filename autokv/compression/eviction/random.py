"""Random eviction: the control that a method must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import Block, Scorer
from autokv.config import Random


class RandomScorer(Scorer[Random]):
    """A hash of seed, layer, head and position: the same on every device and in every batch and batch item."""

    stage = Random

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: Random) -> Tensor:
        heads, tokens = keys.shape[1:3]
        state = _mix(torch.tensor(stage.options.seed, device=keys.device))
        for part in (
            torch.tensor(context.layer_index, device=keys.device),
            torch.arange(heads, device=keys.device).unsqueeze(-1),
            torch.arange(tokens, device=keys.device),
        ):
            state = _mix(state + part)
        # The upper 24 bits are what a float32 holds exactly.
        return (_shift_right(state, 40).float() / 2**24).expand(keys.shape[:3])

    def score_block(self, block: Block, context: LayerContext, stage: Random) -> Tensor:
        seed = (stage.options.seed + block.number) % 2**31
        options = stage.options.model_copy(update={"seed": seed})
        return super().score_block(block, context, stage.model_copy(update={"options": options}))


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64 (Steele et al. 2014) on int64, whose arithmetic wraps as uint64's does."""
    bits = bits + (0x9E3779B97F4A7C15 - 2**64)
    bits = (bits ^ _shift_right(bits, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    bits = (bits ^ _shift_right(bits, 27)) * (0x94D049BB133111EB - 2**64)
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Shift without copying the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
