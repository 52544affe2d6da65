"""How much of a simulation lies outside of what was measured."""

from __future__ import annotations

import numpy as np

from autokv.serving.costs import CostModel
from autokv.serving.curves import Curve
from autokv.serving.outcome import Outcome


def extrapolations(costs: CostModel, outcome: Outcome) -> tuple[str, ...]:
    """A note on each cost that was asked for beyond its last measured point, with the error stated there."""
    served = outcome.served
    if not served.any():
        return ()
    inputs = outcome.input_tokens[served]
    ends = inputs + outcome.output_tokens[served]
    decode = costs.decode_attention.curves[-1]
    notes = [
        _beyond(inputs, costs.prefill_attention, "prompts", "prefill attention"),
        _beyond(inputs, costs.compress, "prompts", "compression"),
        _beyond(ends, decode, "requests", "decode attention"),
    ]
    largest = costs.decode_attention.batches[-1]
    larger = float((outcome.timeline.running > largest).mean()) if len(outcome.timeline.running) else 0.0
    if larger:
        notes.append(
            f"{_share(larger)} of the time more requests run at once than the {largest:,} that were measured, up to "
            f"{outcome.max_running:,}; the time of decode attention is taken to grow on with their number"
        )
    return tuple(note for note in notes if note)


def _beyond(tokens: np.ndarray[tuple[int], np.dtype[np.int64]], curve: Curve, what: str, cost: str) -> str:
    longest = curve.x[-1]
    share = float((tokens > longest).mean())
    if not share or not curve.y[-1]:
        return ""
    return (
        f"{_share(share)} of the {what} are longer than the {longest:,.0f} tokens up to which {cost} was measured; "
        f"beyond, it may be off by {curve.error:.0%}"
    )


def _share(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{share:.0%}"
