"""Judging how the workload's trace is served, on top of what another executor measures."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, Interrupted
from autokv.evaluation.measurement import Measurement
from autokv.runs.executors import Results, TrialExecutor
from autokv.runs.serving_judge import ServingJudge


class SimulatingExecutor:
    """Adds the metrics of serving; an error stands for a configuration that the trace cannot be served with."""

    def __init__(self, inner: TrialExecutor, serving: ServingJudge) -> None:
        self._inner, self._serving = inner, serving

    def calibrate(self, configs: Sequence[CompressionConfig]) -> Results:
        """As the inner executor, and served."""
        return [self._served(result) for result in self._inner.calibrate(configs)]

    def validate(self, configs: Sequence[CompressionConfig]) -> Results:
        """As the inner executor, and served."""
        return [self._served(result) for result in self._inner.validate(configs)]

    def close(self) -> None:
        """Close the inner executor."""
        self._inner.close()

    def _served(self, result: Measurement | AutoKVError) -> Measurement | AutoKVError:
        if not isinstance(result, Measurement):
            return result
        try:
            return self._serving.judged(result)
        except Interrupted:
            raise
        except AutoKVError as error:
            return error
