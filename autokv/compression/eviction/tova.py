"""TOVA: what the last token attends to (Oren et al. 2024, "Transformers are Multi-State RNNs")."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.compression.eviction.base import Block, Scorer, Watched, observed_attention
from autokv.config import TOVA


class TOVAScorer(Scorer[TOVA]):
    """Attention of the last query, mean over every query head, so that all heads of a layer keep the same tokens.

    The last token stays.
    """

    stage = TOVA

    def watches(self, stage: TOVA) -> Watched:
        return "newest"

    def needs(self, stage: TOVA) -> StatisticsNeeded:
        return StatisticsNeeded(observation_window=1)

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: TOVA) -> Tensor:
        scores = observed_attention(keys, context, 1).mean(dim=1)
        scores[:, -1] = torch.inf
        return scores.unsqueeze(1).expand(keys.shape[:3])

    def score_block(self, block: Block, context: LayerContext, stage: TOVA) -> Tensor:
        scores = super().score_block(block, context, stage)
        return scores.mean(dim=1, keepdim=True).expand_as(scores)
