"""Token budgets while generating: of every block that leaves the window, only the layer's share stays."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.compression.budgets import layer_budgets
from autokv.config import EvictionStage


class GenerationBudget:
    """How many of a layer's generated tokens have left the window, and how many of them stayed.

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
