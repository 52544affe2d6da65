"""Token budgets while generating: of every block that leaves the window, only the layer's share stays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autokv.compression import LayerContext
from autokv.compression.budgets import layer_budgets
from autokv.compression.eviction import SCORERS
from autokv.config import (
    H2O,
    TOVA,
    ExpectedAttention,
    KeyDiff,
    KNorm,
    LagKV,
    Random,
    SnapKV,
    StreamingLLM,
)

Evicting = StreamingLLM | KNorm | KeyDiff | SnapKV | TOVA | H2O | ExpectedAttention | LagKV | Random
BY_TOKENS = (KeyDiff, KNorm, LagKV, Random, StreamingLLM)
"""Methods that score a block by its keys and values; the others by the attention that it received in the window."""


class GenerationBudget:
    """How many of a layer's generated tokens have left the window, and how many of them stayed.

    What is kept of the prompt and of these together is at most the budget of as many tokens of context, for every
    sequence of a batch; all heads keep the same number.
    """

    def __init__(self, stage: Evicting, layer_index: int, layer_count: int) -> None:
        self._stage, self._index, self._count = stage, layer_index, layer_count
        self.left = 0
        self.kept = 0

    def share(self, count: int, prompts: Sequence[int]) -> int:
        """How many of the next ``count`` generated tokens stay, behind prompts of so many tokens; counts them."""
        self.left += count
        free = min(self._budget(tokens + self.left) - self._budget(tokens) for tokens in set(prompts)) - self.kept
        stays = min(max(free, 0), count)
        self.kept += stays
        return stays

    def _budget(self, tokens: int) -> int:
        return layer_budgets(self._stage, tokens, self._count)[self._index]


def score_block(
    stage: Evicting,
    keys: Tensor,
    values: Tensor,
    received: Tensor | None,
    block: int,
    number: int,
    context: LayerContext,
) -> Tensor:
    """Scores of the oldest ``block`` unjudged tokens: float32 ``[batch, kv_heads, block]``, higher stays.

    Args:
        stage: the eviction.
        keys: ``[batch, kv_heads, n, head_dim]``: the block and the tokens after it, in the window; as ``values``.
        values: see ``keys``.
        received: float32 ``[batch, kv_heads, n]``: attention received in the window, for methods that read it.
        block: tokens that are judged.
        number: how many blocks were judged before.
        context: the layer.
    """
    if received is None:
        if isinstance(stage, LagKV):
            # A partition is a block, judged against the next.
            keys, values = keys[:, :, : 2 * block], values[:, :, : 2 * block]
            stage = stage.model_copy(
                update={"sink_tokens": 0, "options": stage.options.model_copy(update={"lag": block})}
            )
        else:
            keys, values = keys[:, :, :block], values[:, :, :block]
        if isinstance(stage, Random):
            seed = (stage.options.seed + number) % 2**31
            stage = stage.model_copy(update={"options": stage.options.model_copy(update={"seed": seed})})
        return SCORERS[stage.method].score(keys, values, context, stage)[..., :block]
    scores = received[..., :block]
    if isinstance(stage, TOVA):
        return scores.mean(dim=1, keepdim=True).expand_as(scores)
    if isinstance(stage, H2O) and stage.options.normalize:
        return scores / torch.arange(received.shape[2], received.shape[2] - block, -1, device=scores.device)
    return scores
