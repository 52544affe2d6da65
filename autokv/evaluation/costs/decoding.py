"""The time of attention while decoding, spread over a request's output."""

from __future__ import annotations

from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs.forms import first_room, held_tokens
from autokv.evaluation.costs.layers import Layers
from autokv.evaluation.costs.points import ladder
from autokv.evaluation.costs.steps import ROOM, SHORTEST, State, StepTimes
from autokv.evaluation.costs.timing import Stopwatch
from autokv.runtime.plan import Plan, make_plan
from autokv.serving.curves import Grid


def attention_while_decoding(
    layers: Layers,
    plan: Plan,
    stopwatch: Stopwatch,
    longest: int,
    max_batch: int,
    output_tokens: int,
    *,
    thorough: bool,
) -> Grid:
    """(Batch, tokens seen per sequence) to seconds of one step's attention, all layers.

    Blocks that leave windows are spread over an output of ``output_tokens``. A layer with a sliding window costs what
    a 16-bit cache of so many tokens does. Unless ``thorough``, from two sizes, and as if only prompts were held.
    """
    grid = _grid(layers, plan, stopwatch, longest, max_batch, output_tokens, thorough).scaled(len(layers.full))
    if not layers.sliding:
        return grid
    window = min(int(layers.sliding[0].sliding_window or longest), longest)
    plain = make_plan(layers.model.model, UNCOMPRESSED)
    bounded = _grid(layers, plain, stopwatch, window, max_batch, output_tokens, thorough).scaled(len(layers.sliding))
    sizes = ladder(SHORTEST, longest)
    return Grid.fit(
        [
            (batch, size, grid(batch, size) + bounded(batch, min(size, window)))
            for batch in grid.batches
            for size in sizes
        ]
    )


def _grid(
    layers: Layers, plan: Plan, stopwatch: Stopwatch, longest: int, max_batch: int, output_tokens: int, thorough: bool
) -> Grid:
    """Of one layer with full attention."""
    room = first_room(plan, longest)
    alone = min(1.0, room / output_tokens) if room >= ROOM else 0.0
    alone = alone if thorough or not alone else 1.0
    blocks = max(0.0, output_tokens - room) / plan.block / output_tokens
    times = StepTimes(layers, plan, stopwatch, longest, max_batch, thorough=thorough)
    states: dict[State, bool] = {"prompt": alone > 0, "grown": alone < 1}
    times.measure([state for state, occurs in states.items() if occurs])
    leaving = times.leaving() if blocks else 0.0
    points = []
    for batch in times.batches:
        for tokens in ladder(SHORTEST, longest):
            held = held_tokens(plan, tokens)
            seconds = alone * times.curve("prompt", batch)(held) if alone else 0.0
            if alone < 1:
                seconds += (1 - alone) * times.curve("grown", batch)(held)
            points.append((batch, float(tokens), seconds + blocks * batch * leaving))
    return _to(Grid.fit(points), max_batch)


def _to(grid: Grid, max_batch: int) -> Grid:
    """``grid`` with the largest batch drawn in a straight line, and rising with the tokens as the others do."""
    sizes = grid.curves[0].x
    batches = sorted({*grid.batches, max_batch})
    return Grid.fit([(batch, size, grid(batch, size)) for batch in batches for size in sizes])
