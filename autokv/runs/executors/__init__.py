"""Who judges a search's candidates: this process, or many devices. The search does not know which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.measurement import Measurement

__all__ = ["Results", "TrialExecutor"]

Results = list[Measurement | AutoKVError]
"""One for each configuration, in their order: its measurement, or why there is none."""


class TrialExecutor(Protocol):
    """Judges configurations, in batches."""

    def calibrate(self, configs: Sequence[CompressionConfig]) -> Results:
        """Judge on the prompts that steer the search.

        Raises:
            Interrupted: it was stopped; nothing of the batch counts.
        """

    def validate(self, configs: Sequence[CompressionConfig]) -> Results:
        """Judge on the prompts that confirm what it found; raises as :meth:`calibrate` does."""

    def close(self) -> None:
        """Let go of what it holds; it may be called again."""
