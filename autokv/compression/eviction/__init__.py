"""Which tokens matter: one scorer per eviction method, registered here under its name in a configuration."""

from __future__ import annotations

from typing import Any

from autokv.compression.eviction.base import Scorer
from autokv.compression.eviction.expected_attention import ExpectedAttentionScorer
from autokv.compression.eviction.h2o import H2OScorer
from autokv.compression.eviction.keydiff import KeyDiffScorer
from autokv.compression.eviction.knorm import KNormScorer
from autokv.compression.eviction.lagkv import LagKVScorer
from autokv.compression.eviction.random import RandomScorer
from autokv.compression.eviction.snapkv import SnapKVScorer
from autokv.compression.eviction.streaming_llm import StreamingLLMScorer
from autokv.compression.eviction.tova import TOVAScorer

__all__ = ["SCORERS", "Scorer"]

SCORERS: dict[str, Scorer[Any]] = {
    "expected_attention": ExpectedAttentionScorer(),
    "h2o": H2OScorer(),
    "keydiff": KeyDiffScorer(),
    "knorm": KNormScorer(),
    "lagkv": LagKVScorer(),
    "random": RandomScorer(),
    "snapkv": SnapKVScorer(),
    "streaming_llm": StreamingLLMScorer(),
    "tova": TOVAScorer(),
}
