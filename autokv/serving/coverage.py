"""How far the figures of a simulation go: what lies outside of what was measured, and queues without end."""

from __future__ import annotations

import numpy as np

from autokv.serving.cost_model import CostModel
from autokv.serving.curves import Curve
from autokv.serving.outcome import Outcome

FEW = 40
"""Requests below which nothing is said about a queue's growth."""
ALWAYS = 0.97
"""Share of the time for which a device is busy that has always something to do."""


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


def overload(outcome: Outcome) -> str:
    """A note where requests come faster than they are served, so that the queue grows for as long as they come.

    Told by a device that is always busy, a tenth or more of the rate that is not kept up with, and a third quarter of
    the requests that waits half as long again as the second.
    """
    order = np.argsort(outcome.arrival_s, kind="stable")
    arrivals, ttft = outcome.arrival_s[order], (outcome.first_token_s - outcome.arrival_s)[order]
    requests = len(arrivals)
    if requests < FEW or not arrivals[-1] > 0 or not outcome.served.any():
        return ""
    come, served = requests / float(arrivals[-1]), float(outcome.served.sum()) / outcome.duration_s
    second, third = (
        np.nan_to_num(ttft[quarter * requests // 4 : (quarter + 1) * requests // 4]).mean() for quarter in (1, 2)
    )
    if outcome.busy_s < ALWAYS * outcome.duration_s or served > 0.9 * come or third < 1.5 * second:
        return ""
    return (
        f"{come:.3g} requests/s arrive and {served:.3g} are served: the queue grows for as long as they come, "
        "and TTFT depends on how long the trace runs"
    )


def lateness(outcome: Outcome) -> str:
    """A note on the turns that came later than in the trace, because the turn before them had not ended."""
    late = outcome.late_s[outcome.late_s > 0]
    if not len(late):
        return ""
    return (
        f"{_share(len(late) / len(outcome.arrival_s))} of the requests come later than in the trace, by "
        f"{float(late.mean()):.3g} s on average, because the turn before them has not ended"
    )


def _beyond(tokens: np.ndarray[tuple[int], np.dtype[np.int64]], curve: Curve, what: str, cost: str) -> str:
    longest = curve.measured_to
    share = float((tokens > longest).mean())
    if not share or not curve.y[-1]:
        return ""
    return (
        f"{_share(share)} of the {what} are longer than the {longest:,.0f} tokens up to which {cost} was measured; "
        f"beyond, it may be off by {curve.error:.0%}"
    )


def _share(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{share:.0%}"
