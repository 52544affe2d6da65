"""KeyDiff: keys unlike the average key (Park et al. 2025, "KeyDiff: Key Similarity-Based KV Cache Eviction")."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import Scorer
from autokv.config import KeyDiff


class KeyDiffScorer(Scorer[KeyDiff]):
    """``-cos(k, mean of the normalised keys)``, over the whole context at once rather than block by block."""

    stage = KeyDiff

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: KeyDiff) -> Tensor:
        directions = F.normalize(keys.float(), dim=-1)
        anchor = F.normalize(directions.mean(dim=2), dim=-1)
        return -(directions @ anchor.unsqueeze(-1)).squeeze(-1)
