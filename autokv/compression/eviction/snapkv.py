"""SnapKV: what the newest tokens attend to (Li et al. 2024, "SnapKV: LLM Knows What You Are Looking for")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.compression.eviction.base import Scorer, observed_attention
from autokv.config import SnapKV


class SnapKVScorer(Scorer[SnapKV]):
    """Attention of the observation window's queries, mean over them and the query group, average-pooled over tokens.

    The pooling runs over the tokens before it and counts the zeros that pad its ends. The observation window stays.
    """

    stage = SnapKV

    def needs(self, stage: SnapKV) -> StatisticsNeeded:
        return StatisticsNeeded(observation_window=stage.options.window)

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: SnapKV) -> Tensor:
        window, kernel = stage.options.window, stage.options.kernel
        observed = observed_attention(keys, context, window)[..., :-window] / window
        if observed.shape[-1]:
            observed = F.avg_pool1d(observed, kernel, stride=1, padding=kernel // 2)
        return F.pad(observed, (0, window), value=torch.inf)
