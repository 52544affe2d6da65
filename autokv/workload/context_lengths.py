"""The context lengths that a trace asks an evaluation to try."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autokv.errors import WorkloadError
from autokv.workload.trace import WorkloadTrace

MULTIPLE = 16
"""Lengths are multiples of this, so that groups of quantization fill."""
MINIMUM = 64
"""Shorter requests are evaluated at this length: below it there is nothing to compress."""


@dataclass(frozen=True)
class ContextPlan:
    """Context lengths in tokens, ascending, one a sample."""

    lengths: tuple[int, ...]
    cap: int
    beyond_cap: float
    """Fraction of the trace's requests whose context is longer than ``cap``: nothing was measured at their length."""


def context_lengths(trace: WorkloadTrace, samples: int, cap: int) -> ContextPlan:
    """Quantiles (i + 0.5) / samples of the trace's input tokens, for i from 0 to ``samples`` - 1.

    A quantile is a length that occurs in the trace (inverted CDF), clipped to 64 and ``cap`` tokens and rounded
    down to a multiple of 16. A ``cap`` below 64 wins over the minimum.

    Raises:
        WorkloadError: ``samples`` is not positive, or ``cap`` is below 16.
    """
    if samples < 1:
        raise WorkloadError(f"is {samples}", field="samples", remedy="ask for at least 1")
    if cap < MULTIPLE:
        raise WorkloadError(
            f"{cap} tokens are too few to evaluate", field="max_context_tokens", remedy=f"allow at least {MULTIPLE}"
        )
    probabilities = (np.arange(samples) + 0.5) / samples
    quantiles = np.quantile(trace.input_tokens, probabilities, method="inverted_cdf")
    lengths = np.clip(quantiles, min(MINIMUM, cap), cap).astype(np.int64) // MULTIPLE * MULTIPLE
    return ContextPlan(tuple(lengths.tolist()), cap, float(np.mean(trace.input_tokens > cap)))
