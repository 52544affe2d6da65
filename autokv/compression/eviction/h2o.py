"""H2O: the heavy hitters of attention (Zhang et al. 2023, "H2O: Heavy-Hitter Oracle")."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.compression.eviction.base import Block, Scorer, required
from autokv.config import H2O


class H2OScorer(Scorer[H2O]):
    """Attention that a token receives, summed over the prompt's queries, mean over the query group.

    ``normalize`` divides by the number of queries that could see the token (ZipCache, He et al. 2024), which takes away
    the advantage of the oldest tokens. The sum runs over the whole prompt at once, where H2O evicts as it goes.
    """

    stage = H2O

    def needs(self, stage: H2O) -> StatisticsNeeded:
        return StatisticsNeeded(attention_received=True)

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: H2O) -> Tensor:
        received = required(context.statistics.attention_received, "attention_received").float()
        if not stage.options.normalize:
            return received
        return received / torch.arange(keys.shape[2], 0, -1, device=keys.device)

    def score_block(self, block: Block, context: LayerContext, stage: H2O) -> Tensor:
        received = super().score_block(block, context, stage)
        if not stage.options.normalize:
            return received
        last = block.keys.shape[2]
        return received / torch.arange(last, last - block.size, -1, device=received.device)
