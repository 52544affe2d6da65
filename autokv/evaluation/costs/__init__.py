"""What serving costs: times measured part by part, kept, and put together into a :class:`autokv.serving.CostModel`.

The names here load without torch; the meter itself is in :mod:`autokv.evaluation.costs.meter`.
"""

from autokv.evaluation.costs.cost_cache import CostCache, KernelTime, MemoryCache, key_of

__all__ = ["CostCache", "KernelTime", "MemoryCache", "key_of"]
