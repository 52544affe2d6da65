"""The three stages on tensors: ``compress`` and what it returns."""

from autokv.compression.compressed import CompressedKV
from autokv.compression.context import LayerContext, PrefillStatistics, StatisticsNeeded
from autokv.compression.pipeline import compress, statistics_needed

__all__ = ["CompressedKV", "LayerContext", "PrefillStatistics", "StatisticsNeeded", "compress", "statistics_needed"]
