"""Judging configurations: prefill once, compress many.

The names here load without torch; the evaluator itself is in :mod:`autokv.evaluation.evaluator`.
"""

from autokv.evaluation.measurement import Measurement, Statistics
from autokv.evaluation.metrics import METRICS, Metric
from autokv.evaluation.prompt import Prompt

__all__ = ["METRICS", "Measurement", "Metric", "Prompt", "Statistics"]
