"""LagKV: tokens that stand out against what follows them (Liang et al. 2025, "LagKV: Lag-Relative Information")."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import Block, Scorer
from autokv.config import LagKV


class LagKVScorer(Scorer[LagKV]):
    """Partitions of ``lag`` tokens after the sinks, each normalised by the minimum and maximum of the next.

    A token's weight is the standard deviation over its normalised channels, softmax over the partition, mean of keys
    and values. Heads of equal size compare ranks inside the partition, so that every partition gives up the same share
    (between equal ranks the newer partition wins). An ``adaptive`` head budget compares the weights themselves: ranks
    are the same in every head. The sinks, and the last partition with what is left over, outrank the rest; a context
    of fewer than two partitions is scored by position.
    """

    stage = LagKV
    looks_ahead = True

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: LagKV) -> Tensor:
        lag, tokens = stage.options.lag, keys.shape[2]
        sinks = min(stage.sink_tokens, tokens)
        scored = max((tokens - sinks) // lag - 1, 0)
        tail = tokens - sinks - scored * lag

        # The tail lies above 1, the scored partitions below; the sinks above both.
        scores = torch.full(keys.shape[:3], torch.inf, dtype=torch.float32, device=keys.device)
        scores[..., tokens - tail :] = 1 + torch.arange(1, tail + 1, device=keys.device) / max(tail, 1)
        if scored:
            body = slice(sinks, sinks + (scored + 1) * lag)
            weights = (_weights(keys[:, :, body], lag) + _weights(values[:, :, body], lag)) / 2
            if stage.head_budget == "uniform":
                weights = _ranks(weights)
            scores[..., sinks : tokens - tail] = weights.flatten(2)
        return scores

    def score_block(self, block: Block, context: LayerContext, stage: LagKV) -> Tensor:
        # A partition is a block, judged against the next.
        both, options = slice(2 * block.size), stage.options.model_copy(update={"lag": block.size})
        partition = stage.model_copy(update={"sink_tokens": 0, "options": options})
        return self.score(block.keys[:, :, both], block.values[:, :, both], context, partition)[..., : block.size]


def _weights(states: Tensor, lag: int) -> Tensor:
    """``[batch, heads, (n + 1) * lag, head_dim]`` to ``[batch, heads, n, lag]``; the last partition is a reference."""
    batch, heads, _, head_dim = states.shape
    partitions = states.float().reshape(batch, heads, -1, lag, head_dim)
    references = partitions[:, :, 1:]
    low = references.amin(dim=3, keepdim=True)
    spread = references.amax(dim=3, keepdim=True) - low
    # A channel that is constant over the reference has no scale to divide by.
    normalised = (partitions[:, :, :-1] - low) / spread.where(spread > 0, 1.0)
    # Spelled out because torch.std is an order of magnitude slower on a CPU.
    centred = normalised - normalised.mean(dim=-1, keepdim=True)
    return (centred.square().sum(dim=-1) / (head_dim - 1)).sqrt().softmax(dim=-1)


def _ranks(weights: Tensor) -> Tensor:
    """Rank inside the partition, then age of the partition, as one number in [0, 1)."""
    count, lag = weights.shape[2:]
    ranks = weights.argsort(dim=-1, stable=True).argsort(dim=-1)
    newer = torch.arange(count, device=weights.device).unsqueeze(-1)
    return (ranks * count + newer) / (count * lag)
