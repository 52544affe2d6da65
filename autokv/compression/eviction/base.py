"""What an eviction method is: a scorer of tokens, and the statistics of the prefill that it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor

from autokv.compression.context import LayerContext, StatisticsNeeded
from autokv.config import EvictionStage
from autokv.errors import ConfigError

StageT = TypeVar("StageT", bound=EvictionStage)


class Scorer(ABC, Generic[StageT]):
    """Scores the tokens of a layer. Stateless: one instance serves every layer and thread."""

    def needs(self, stage: StageT) -> StatisticsNeeded:
        """What :meth:`score` reads of ``context.statistics``; nothing by default."""
        return StatisticsNeeded()

    @abstractmethod
    def score(self, keys: Tensor, values: Tensor, context: LayerContext, stage: StageT) -> Tensor:
        """Score every token of one layer; higher stays, infinity marks a token that the method itself protects.

        Args:
            keys: ``[batch, kv_heads, tokens, head_dim]``, after RoPE.
            values: ``[batch, kv_heads, tokens, head_dim]``.
            context: the layer, and the statistics that :meth:`needs` names.
            stage: the method's options, sinks and recent tokens.

        Returns:
            ``[batch, kv_heads, tokens]`` float32.

        Raises:
            ConfigError: a statistic that :meth:`needs` names is missing, or too short for ``stage``.
        """


def required(statistic: Tensor | None, name: str) -> Tensor:
    """``statistic``, the field ``name`` of ``context.statistics``, or an error if the prefill did not collect it."""
    if statistic is None:
        raise ConfigError(
            f"reads {name}, which the prefill did not collect",
            field="pipeline.eviction.method",
            remedy="collect what statistics_needed(config) names",
        )
    return statistic
