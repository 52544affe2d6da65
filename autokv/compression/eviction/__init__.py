"""Which tokens matter: one scorer per eviction method, of AutoKV or of an installed distribution."""

from __future__ import annotations

from typing import Any

from autokv.compression.eviction.base import Block, Scorer
from autokv.compression.eviction.expected_attention import ExpectedAttentionScorer
from autokv.compression.eviction.h2o import H2OScorer
from autokv.compression.eviction.keydiff import KeyDiffScorer
from autokv.compression.eviction.knorm import KNormScorer
from autokv.compression.eviction.lagkv import LagKVScorer
from autokv.compression.eviction.random import RandomScorer
from autokv.compression.eviction.snapkv import SnapKVScorer
from autokv.compression.eviction.streaming_llm import StreamingLLMScorer
from autokv.compression.eviction.tova import TOVAScorer
from autokv.config import EVICTIONS, EvictionStage
from autokv.open_union import method_of

__all__ = ["SCORERS", "Block", "Scorer", "scorer_of"]

SCORERS: dict[str, Scorer[Any]] = {
    method_of(scorer.stage): scorer()
    for scorer in (
        ExpectedAttentionScorer,
        H2OScorer,
        KeyDiffScorer,
        KNormScorer,
        LagKVScorer,
        RandomScorer,
        SnapKVScorer,
        StreamingLLMScorer,
        TOVAScorer,
    )
}
"""AutoKV's own, by the method that names each in a configuration."""


def scorer_of(stage: EvictionStage) -> Scorer[Any]:
    """The scorer of a stage's method.

    Raises:
        PluginError: an installed distribution's scorer cannot be loaded.
    """
    own = SCORERS.get(stage.method)
    scorer: Scorer[Any] = EVICTIONS.registered()[stage.method]() if own is None else own
    return scorer
