"""StreamingLLM: the sinks and the newest tokens (Xiao et al. 2023, "Efficient Streaming Language Models")."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression.context import LayerContext
from autokv.compression.eviction.base import Scorer
from autokv.config import StreamingLLM


class StreamingLLMScorer(Scorer[StreamingLLM]):
    """A token's score is its position; the sinks stay because ``sink_tokens`` protects them.

    Keys keep the rotation of their own position, where the paper counts positions inside the cache.
    """

    stage = StreamingLLM

    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: StreamingLLM) -> Tensor:
        return torch.arange(keys.shape[2], dtype=torch.float32, device=keys.device).expand(keys.shape[:3])
