"""One trace served by a compressed cache, by 16 bits and by fp8, side by side, and how far the figures go."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from autokv.errors import RequestError, WorkloadError
from autokv.serving.comparison import Comparison, Run
from autokv.serving.cost_model import CostModel
from autokv.serving.curves import Curve
from autokv.serving.engine_options import SLO
from autokv.serving.outcome import Outcome
from autokv.serving.rate import default_slo, sustained_rate
from autokv.serving.simulator import SimulatedEngine
from autokv.serving.verdict import size_text, verdict
from autokv.workload import WorkloadTrace

FULL = "16-bit"
FLOAT8 = "fp8"
BOUND = 0.01
"""Memory is short where unlimited memory changes the mean end-to-end time or the 99th percentile of TTFT by more."""
FEW = 40
"""Requests below which nothing is said about a queue's growth."""
ALWAYS = 0.97
"""Share of the time for which a device is busy that has always something to do."""

Oversized = Literal["error", "refuse"]


def compare(
    trace: WorkloadTrace,
    candidate: SimulatedEngine,
    full: SimulatedEngine | None = None,
    float8: SimulatedEngine | None = None,
    *,
    slo: SLO | None = None,
    max_rate: bool = False,
    oversized: Oversized = "error",
) -> Comparison:
    """Serve ``trace`` with a candidate and, where they are given, with 16 bits and fp8.

    Args:
        trace: the requests.
        candidate: the compressed cache.
        full: the 16-bit cache, on the same device under the same options.
        float8: the fp8 cache, likewise.
        slo: limits for goodput; by default five times what an idle engine takes with 16 bits.
        max_rate: whether to look for each engine's maximum sustainable rate: up to 20 simulations more for each.
        oversized: what to do about requests that the candidate's memory can never hold.

    Raises:
        WorkloadError: the candidate's memory can never hold a request, and that is an error.
        RequestError: see :func:`~autokv.serving.simulator.simulate`.
    """
    limits = slo or default_slo(trace, (full or candidate).costs)
    chosen = _run(trace, candidate, limits, max_rate)
    if oversized == "error":
        _check_sizes(trace, candidate, chosen.outcome)
    runs: dict[str, Run] = {}
    impossible: dict[str, str] = {}
    for engine in (full, float8):
        if engine is None:
            continue
        try:
            runs[engine.name] = _run(trace, engine, limits, max_rate)
        except RequestError as error:
            impossible[engine.name] = error.message
    plain = None if full is None else runs.get(full.name)
    found = Comparison(
        trace=trace.name,
        requests_per_s=trace.summary().requests_per_s,
        closed_loop=trace.session is not None,
        slo=limits,
        slo_is_default=slo is None,
        candidate=chosen,
        full=plain,
        float8=None if float8 is None else runs.get(float8.name),
        impossible=impossible,
        memory_short=None if full is None or plain is None else _memory_short(trace, full, plain.outcome),
        attention_share=None if full is None or plain is None else attention_share(full.costs, plain.outcome),
        basis=candidate.costs.basis,
        predicted=candidate.costs.predicted,
    )
    return replace(found, verdict=verdict(found))


def attention_share(costs: CostModel, outcome: Outcome) -> float:
    """Share of decode attention in a decoding step of the mean batch, over requests of the mean length held."""
    running = outcome.timeline.running
    batch = max(1, round(float(running[running > 0].mean()))) if (running > 0).any() else 1
    outputs = outcome.output_tokens[outcome.served]
    held = outcome.input_tokens[outcome.served] + outputs / 2
    tokens = float(np.average(held, weights=outputs)) if len(outputs) else 1.0
    return costs.decode_attention(batch, tokens) / costs.decode(batch, tokens)


def _run(trace: WorkloadTrace, engine: SimulatedEngine, slo: SLO, max_rate: bool) -> Run:
    outcome = engine.serve(trace)
    said = (*engine.notes, overload(outcome), _lateness(outcome), *_extrapolations(engine.costs, outcome))
    notes = [note for note in (*said, engine.costs.predicted, engine.costs.remark) if note]
    highest = sustained_rate(trace, engine, slo) if max_rate else None
    if highest is not None and highest.sample:
        notes.append(f"the sustained rate is found on {highest.sample}")
    return Run(
        name=engine.name,
        outcome=outcome,
        report=replace(outcome.report(slo), notes=tuple(notes)),
        concurrent_requests=engine.concurrent_requests(trace),
        max_rate=highest,
    )


def _check_sizes(trace: WorkloadTrace, engine: SimulatedEngine, outcome: Outcome) -> None:
    refused = np.flatnonzero(~outcome.served)
    if not len(refused):
        return
    first = int(refused[0])
    inputs, outputs = int(outcome.input_tokens[first]), int(outcome.output_tokens[first])
    others = f" (and {len(refused) - 1:,} more like it)" if len(refused) > 1 else ""
    memory = engine.memory
    if memory.blocks_of(inputs + outputs - 1) <= memory.blocks:
        why = " in 16 bits, as which a prompt that is prefilled in several chunks is held until its end,"
        tokens = engine.options.max_num_batched_tokens
        remedy = f"allow more tokens an iteration (--max-num-batched-tokens is {tokens:,}), take"
    else:
        why, remedy = "", "compress more, take"
    line = "" if trace.lines is None else f", line {trace.lines[first]} of its file"
    raise WorkloadError(
        f"{inputs:,} input and {outputs:,} output tokens{others}{why} never fit into the "
        f"{size_text(engine.capacity_bytes)} of KV memory with {engine.name}",
        field=f"{trace.name}, request {first + 1:,} by arrival{line}",
        remedy=f"{remedy} more memory, or have such requests refused (--refuse-oversized)",
    )


def _memory_short(trace: WorkloadTrace, engine: SimulatedEngine, outcome: Outcome) -> bool:
    """Whether unlimited memory would serve the trace otherwise."""
    if outcome.preemptions.any() or not outcome.served.all():
        return True
    unlimited = replace(engine, capacity_bytes=float("inf")).serve(trace)
    return any(
        abs(have - want) > BOUND * want
        for have, want in (
            (float(outcome.e2e_s.mean()), float(unlimited.e2e_s.mean())),
            (float(np.percentile(outcome.ttft_s, 99)), float(np.percentile(unlimited.ttft_s, 99))),
        )
    )


def _extrapolations(costs: CostModel, outcome: Outcome) -> tuple[str, ...]:
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


def _lateness(outcome: Outcome) -> str:
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
