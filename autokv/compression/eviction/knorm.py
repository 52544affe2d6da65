"""K-norm: keys of small norm draw attention (Devoto et al. 2024, "A Simple and Effective L2 Norm-Based Strategy")."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import Scorer
from autokv.config import KNorm


class KNormScorer(Scorer[KNorm]):
    """``-‖k‖``."""

    stage = KNorm

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: KNorm) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(keys, dim=-1, dtype=torch.float32)
        return -norms
