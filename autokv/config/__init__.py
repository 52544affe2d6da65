"""A compression pipeline of three stages, each a union discriminated by ``method``, and the document it travels in.

``{"method": "none"}`` is always valid. Nothing here imports torch.
"""

from autokv.config.base import NoStage, Strict
from autokv.config.document import (
    SCHEMA_VERSION,
    CompressionConfig,
    ConfigurationDocument,
    check_fits,
    check_formats,
    json_schema,
)
from autokv.config.eviction import (
    BUILT_IN_EVICTIONS,
    EVICTIONS,
    H2O,
    TOVA,
    Eviction,
    EvictionStage,
    ExpectedAttention,
    KeyDiff,
    KNorm,
    LagKV,
    Random,
    SnapKV,
    StreamingLLM,
)
from autokv.config.pipeline import (
    AfterPrefill,
    LatentLowRank,
    LowRank,
    LowRankStage,
    OnWrite,
    Pipeline,
    ResidualLowRank,
    Write,
)
from autokv.config.quantization import (
    FormatQuantization,
    FP8Quantization,
    IntegerFormat,
    IntegerQuantization,
    LayerFormats,
    Quantization,
)

__all__ = [
    "BUILT_IN_EVICTIONS",
    "EVICTIONS",
    "H2O",
    "SCHEMA_VERSION",
    "TOVA",
    "AfterPrefill",
    "CompressionConfig",
    "ConfigurationDocument",
    "Eviction",
    "EvictionStage",
    "ExpectedAttention",
    "FP8Quantization",
    "FormatQuantization",
    "IntegerFormat",
    "IntegerQuantization",
    "KNorm",
    "KeyDiff",
    "LagKV",
    "LatentLowRank",
    "LayerFormats",
    "LowRank",
    "LowRankStage",
    "NoStage",
    "OnWrite",
    "Pipeline",
    "Quantization",
    "Random",
    "ResidualLowRank",
    "SnapKV",
    "StreamingLLM",
    "Strict",
    "Write",
    "check_fits",
    "check_formats",
    "json_schema",
]
