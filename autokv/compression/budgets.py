"""From scores to kept tokens: how many tokens each layer and head may keep, and which those are.

With ``protected`` the sinks and the newest tokens that always stay, the uniform budget of a head is
``min(tokens, max(asked, protected, 1))``, where ``asked`` is ``floor(tokens * keep_ratio)`` or ``keep_tokens``. Every
other budget moves tokens between layers or heads and keeps the total of the uniform one exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from autokv.compression.kept import KeptTokens
from autokv.config import EvictionStage

PYRAMID_BETA = 20
"""The last layer's free budget is the mean over layers divided by this (PyramidKV, Cai et al. 2024)."""
HEAD_FLOOR = 0.2
"""Share of the free head budget that no head falls below (AdaKV, Feng et al. 2024)."""


def layer_budgets(stage: EvictionStage, tokens: int, layer_count: int) -> list[int]:
    """Tokens that each layer keeps per KV head, on average over its heads, first layer first.

    ``pyramid`` gives the free part (what is kept beyond the protected tokens) a straight line from the first layer
    down to the last, ``free / 20`` (PyramidKV, Cai et al. 2024). Where the first layer would exceed ``tokens``, or the
    last fall below one token, the line becomes flatter around the same mean.
    """
    budget, protected = _head_budget(stage, tokens)
    if stage.layer_budget == "uniform" or layer_count == 1:
        return [budget] * layer_count
    return [protected + free for free in _line(budget - protected, tokens - protected, 1 - protected, layer_count)]


def select(scores: Tensor, stage: EvictionStage, layer_index: int, layer_count: int) -> KeptTokens:
    """Choose the tokens of one layer that stay.

    ``adaptive`` shares a layer's free budget among the heads of a batch item by one top-k over all of them; 20% of a
    head's free budget is its own first (AdaKV, Feng et al. 2024). Every row keeps at least one token.

    Args:
        scores: ``[batch, kv_heads, tokens]``, higher stays; compared across heads if ``head_budget`` is ``adaptive``.
        stage: which budgets, and how many tokens are protected.
        layer_index: position among the layers that are compressed, from 0.
        layer_count: layers that are compressed.
    """
    batch, heads, tokens = scores.shape
    budget = layer_budgets(stage, tokens, layer_count)[layer_index]
    sinks, recent = _protected(stage, tokens)
    free = budget - sinks - recent
    candidates = scores[..., sinks : tokens - recent]
    if stage.head_budget == "adaptive":
        own = candidates.topk(max(int(HEAD_FLOOR * free), 1 - sinks - recent), dim=-1).indices
        candidates = candidates.scatter(-1, own, math.inf).flatten(1)
        free *= heads
    chosen = candidates.topk(free, dim=-1, sorted=False).indices
    kept = torch.zeros(candidates.shape, dtype=torch.bool, device=scores.device).scatter_(-1, chosen, True)
    kept = kept.view(batch, heads, tokens - sinks - recent)
    return KeptTokens.from_mask(F.pad(kept, (sinks, recent), value=True))


class GenerationBudget:
    """How many of a layer's generated tokens have left the residual window, and how many of them stayed.

    What is kept of the prompt and of these together is at most the budget of as many tokens of context, for every
    sequence of a batch; all heads keep the same number.
    """

    def __init__(self, stage: EvictionStage, layer_index: int, layer_count: int) -> None:
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


def _protected(stage: EvictionStage, tokens: int) -> tuple[int, int]:
    """How many first and last of ``tokens`` always stay."""
    sinks = min(stage.sink_tokens, tokens)
    return sinks, min(stage.protected_recent, tokens - sinks)


def _head_budget(stage: EvictionStage, tokens: int) -> tuple[int, int]:
    """Uniform budget of a head, and how many of it are protected."""
    protected = sum(_protected(stage, tokens))
    return min(tokens, max(stage.budget(tokens), protected, 1)), protected


@lru_cache(maxsize=1024)
def _line(mean: int, ceiling: int, floor: int, count: int) -> tuple[int, ...]:
    """``count`` integers on a falling line, each between ``floor`` and ``ceiling``, of total ``mean * count``."""
    first = min(2 * mean - max(mean / PYRAMID_BETA, floor), ceiling)
    step = 2 * (first - mean) / (count - 1)
    ideal = [first - step * index for index in range(count)]
    budgets = [math.floor(value) for value in ideal]
    by_remainder = sorted(range(count), key=lambda index: budgets[index] - ideal[index])
    for index in by_remainder[: mean * count - sum(budgets)]:
        budgets[index] += 1
    return tuple(budgets)
