"""How a compressed layer grows: how long its residual window is, and which generated tokens leave it together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autokv.compression.encode import rank_of
from autokv.compression.eviction import Scorer, scorer_of
from autokv.compression.eviction.base import Watched
from autokv.compression.extend import group_of
from autokv.compression.quantization import residual_tokens
from autokv.config import CompressionConfig, EvictionStage, FormatQuantization, NoStage
from autokv.kernels import Backend

BLOCK = 16
"""Tokens that leave a residual window of as many or more together: what is stored grows by copying, once a block."""


@dataclass(frozen=True)
class Growth:
    """What a configuration says of generated tokens."""

    config: CompressionConfig
    kernels: Backend
    """What runs the operations."""

    @property
    def has_kernels(self) -> bool:
        """Whether :attr:`kernels` can read what is stored; an engine's own format is only judged."""
        return not isinstance(self.config.pipeline.quantization, FormatQuantization)

    @property
    def eviction(self) -> EvictionStage | None:
        """The eviction that drops tokens while generating."""
        stage = self.config.pipeline.eviction
        return None if isinstance(stage, NoStage) or not stage.evicts else stage

    @property
    def scorer(self) -> Scorer[Any] | None:
        """What judges generated tokens for :attr:`eviction`."""
        return None if self.eviction is None else scorer_of(self.eviction)

    @property
    def watched(self) -> Watched:
        """The attention that is kept of what the residual window holds."""
        return "nothing" if self.scorer is None else self.scorer.watches(self.eviction)

    @property
    def group(self) -> int:
        """Tokens that share scales."""
        return group_of(self.config.pipeline)

    @property
    def block(self) -> int:
        """Tokens that leave the residual window together: whole groups, enough to find a low-rank basis from, and no
        more than ``residual_tokens`` where nothing else asks for more."""
        pipeline, fewest = self.config.pipeline, BLOCK
        if self.eviction is None and not isinstance(pipeline.quantization, NoStage):
            fewest = min(BLOCK, residual_tokens(pipeline.quantization))
        rank = max(rank_of(pipeline, "key"), rank_of(pipeline, "value"), 1)
        return max(fewest, self.group, 1 << (rank - 1).bit_length())

    @property
    def capacity(self) -> int:
        """Tokens that the residual window holds at most; 0 if a token is compressed as it is appended.

        With an eviction, the newest ``recent_tokens`` are never judged, a scorer may judge a block by the next one,
        and chosen tokens may wait for a group.
        """
        residual, stage, scorer = residual_tokens(self.config.pipeline.quantization), self.eviction, self.scorer
        if stage is None or scorer is None:
            return max(residual, self.block if self.block > 1 else 0)
        recent = max(stage.protected_recent, self.block if scorer.looks_ahead else 0)
        return max(residual, recent) + self.block + self.group - 1
