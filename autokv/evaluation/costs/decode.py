"""The time of attention while decoding: of one step's, as the runtime does it, and spread over a request's output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import cycle
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.clock import ColdClock
from autokv.evaluation.costs.synthetic import Layers, Sequences, first_room, held_tokens, read_form
from autokv.evaluation.costs.timing import Run, Stopwatch, Timed, ladder
from autokv.evaluation.memory import free_bytes
from autokv.runtime.attention import AttentionCall
from autokv.runtime.continuing import attend_one
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan, make_plan
from autokv.serving.curves import Curve, Grid

SHORTEST = 64
RATIO = 4.0
BESIDE_TOKENS = 16
"""Tokens that a sequence holds while the rest of a step is timed beside its attention."""
ENOUGH = 1024
"""Tokens up to which attention is timed where two points have to do."""
RUNS, FEW_RUNS = 4, 3
ROOM = 2 * (RUNS + 1)
"""Tokens that a window must take while it is timed without a block leaving it."""
BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 64)}
"""Sequences that are timed; more of them cost in proportion."""
FEW_BATCHES = {"cpu": (3,), "cuda": (1, 16)}
"""The same where few points have to do: a CPU attends for one sequence after the other."""
MEMORY_SHARE = 0.25
"""Of the memory that is free, for the sequences of one layer."""

State = Literal["prompt", "grown", "leaving"]
"""What a sequence holds: its prompt and a window; also blocks that were generated; a window that a block leaves at
this step."""


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
    # Without a residual window, each step compresses its own token.
    blocks = max(0.0, output_tokens - room) / plan.block / output_tokens if plan.capacity else 0.0
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


class StepTimes:
    """Seconds of one layer's attention by state and batch, over tokens held."""

    def __init__(
        self, layers: Layers, plan: Plan, stopwatch: Stopwatch, longest: int, max_batch: int, *, thorough: bool
    ) -> None:
        self._layers, self._plan, self._stopwatch = layers, plan, stopwatch
        self._plain = make_plan(layers.model.model, UNCOMPRESSED)
        self._joined = layers.model.device.type == "cuda"
        self._runs = RUNS if thorough else FEW_RUNS
        batches = (BATCHES if thorough else FEW_BATCHES)[layers.model.device.type]
        self.batches = sorted({min(batch, max_batch) for batch in batches})
        held = held_tokens(plan, longest)
        # Attention is a line over the tokens held, but for its beginning: two points draw it.
        sizes = ladder(SHORTEST, longest, RATIO) if thorough else [SHORTEST, max(2 * SHORTEST, min(longest, ENOUGH))]
        # The same sizes whatever is evicted; one beyond what is held ends the curve.
        self._sizes = sizes[: 1 + next((place for place, size in enumerate(sizes) if size >= held), len(sizes))]
        self._points: dict[tuple[State, int], list[tuple[float, float]]] = {}
        self._last: tuple[int, int, State, Sequences] | None = None
        self._measuring = False

    def measure(self, states: Sequence[State]) -> None:
        """All points of ``states``."""
        self._measuring = True
        for size in self._sizes:
            for state in states:
                # What was generated costs about as much behind any prompt.
                if state == "prompt" or len(states) == 1 or size in (self._sizes[0], self._sizes[-1]):
                    more = self._generated if state == "grown" else 0.0
                    for batch in self.batches:
                        points = self._points.setdefault((state, batch), [])
                        points.append((size + more, self._time(state, batch, size)))
        self._measuring, self._last = False, None

    def curve(self, state: State, batch: int) -> Curve:
        """Tokens held to seconds."""
        return Curve.fit(self._points[state, batch])

    def leaving(self) -> float:
        """Seconds of a block that leaves one sequence's window in one layer; what else there is was measured."""
        size = self._sizes[0]
        batch = self.batches[0]
        state: State = "grown" if ("grown", batch) in self._points else "prompt"
        (_, staying), *_ = self._points[state, batch]
        return max(0.0, self._time("leaving", 1, size) - staying / batch)

    @cached_property
    def _generated(self) -> float:
        """Tokens that a grown sequence holds besides its prompt."""
        size = self._sizes[0]
        alone = Sequences(self._layers, self._plan, size, 1, joined=False, depth=1)
        alone.grow()
        alone.open(ROOM)
        return alone.held_tokens() - size

    def _time(self, state: State, batch: int, size: int) -> float:
        few = min(batch, self._affordable(size)) if self._joined else batch
        if few < batch:
            # Attention over so much reads memory as fast as it can: twice the sequences take twice as long.
            return batch / few * self._time(state, few, size)
        stage: dict[str, Any] = {"kind": "attention while decoding", "state": state, **read_form(self._plan)}
        if state == "leaving" and self._plan.eviction is not None:
            stage["eviction"] = self._plan.eviction.model_dump(mode="json")
        prepare = partial(self._prepare, state, batch, size)
        usual = None
        if not self._joined:
            usual = beside_attention(self._layers, self._plain, self._stopwatch, batch)
        return self._stopwatch.seconds(self._layers.shape, stage, batch, size, prepare, runs=self._runs, usual=usual)

    def _affordable(self, size: int) -> int:
        """Sequences of ``size`` tokens that a share of the free memory holds in one layer, and a copy of them."""
        facts, device = self._layers.model.facts, self._layers.model.device
        one = 2 * facts.kv_bytes_per_token // len(facts.full_layers) * size
        return max(1, int(free_bytes(device) * MEMORY_SHARE) // one)

    @torch.inference_mode()
    def _prepare(self, state: State, batch: int, size: int) -> Run:
        sequences = self._made(state, batch, size)
        if self._joined:
            return self._cold(sequences, state, batch)
        step = AttentionPass(self._layers, self._plan, sequences, batch, self._stopwatch.now)

        def run() -> Timed:
            if state == "leaving":
                sequences.fill()
            else:
                sequences.open(ROOM)
            found = step.seconds()
            return Timed(found.attention, found.rest)

        return run

    def _cold(self, sequences: Sequences, state: State, batch: int) -> Run:
        """One layer after another, each by itself, what it reads out of the caches."""
        clock, contents = ColdClock(self._layers.model.device), cycle(one for (one,) in sequences.contents)
        call = self._layers.newest(self._layers.full[0], batch)

        def run() -> Timed:
            held = next(contents)
            if state == "leaving":
                sequences.fill()
            else:
                attend_one(held, call)
            return Timed(clock.us(lambda: attend_one(held, call)) / 1e6)

        return run

    def _made(self, state: State, batch: int, size: int) -> Sequences:
        """Sequences in ``state``; while all points are measured, those of the last one where they can become what is
        asked for."""
        batch = batch if self._joined or state == "leaving" else max(self.batches)
        if self._last is not None and self._last[:2] == (size, batch) and self._last[2] in (state, "prompt"):
            _, _, was_state, sequences = self._last
            if was_state != state:
                sequences.grow()
        else:
            self._last = None
            sequences = Sequences(self._layers, self._plan, size, batch, joined=self._joined)
            if state != "prompt":
                sequences.grow()
        self._last = (size, batch, state, sequences) if self._measuring else None
        return sequences


class StepSeconds(NamedTuple):
    """A step's time in parts."""

    attention: float
    """Of one layer, on average."""
    rest: float
    """Everything but attention, all layers."""


class AttentionPass:
    """The mode of a whole model's step over ``batch`` sequences, one after the other, as a packed batch decodes.

    Between two layers the model reads its weights, so that attention finds the caches, of the processor and of the
    interpreter, as it does in a server, and leaves them to the rest as it does there.
    """

    def __init__(self, layers: Layers, plan: Plan, sequences: Sequences, batch: int, now: Callable[[], float]) -> None:
        self._model, self._plan, self._now = layers.model, plan, now
        self._contents = {call.layer: contents for call, contents in zip(layers.full, sequences.contents, strict=True)}
        self._batch = batch
        self._calls: list[tuple[float, float]] = []
        """When each layer's attention began and ended."""

    def seconds(self) -> StepSeconds:
        """Of one step."""
        self._calls, start = [], self._now()
        ids = torch.arange(self._batch)
        packed_logits(self._model.model, self._model.facts, self, ids, ids, range(self._batch)).argmax(dim=-1).tolist()
        whole = self._now() - start
        attention = [end - begin for layer, (begin, end) in enumerate(self._calls) if layer in self._contents]
        return StepSeconds(sum(attention) / len(attention), whole - sum(attention))

    def attend(self, call: AttentionCall) -> Tensor:
        begin = self._now()
        output = torch.zeros_like(call.query) if call.layer not in self._contents else self._attended(call)
        self._calls.append((begin, self._now()))
        return output

    def _attended(self, call: AttentionCall) -> Tensor:
        output = torch.empty_like(call.query.transpose(1, 2), memory_format=torch.contiguous_format)
        call = replace(call, mask=None, options={})
        for place, contents in enumerate(self._contents[call.layer][: self._batch]):
            one = slice(place, place + 1)
            part = replace(call, query=call.query[:, :, one], key=call.key[:, :, one], value=call.value[:, :, one])
            output[:, place] = attend_one(contents, part)[:, :, 0]
        return output.transpose(1, 2)


def beside_attention(layers: Layers, plan: Plan, stopwatch: Stopwatch, batch: int) -> float:
    """The rest of a step of ``batch`` sequences that does attend: attention leaves the processor's caches to the rest
    otherwise than nothing does.

    ``plan`` is that of 16 bits.
    """

    def prepare() -> Run:
        sequences = Sequences(layers, plan, BESIDE_TOKENS, batch, joined=False)
        step = AttentionPass(layers, plan, sequences, batch, stopwatch.now)

        def run() -> Timed:
            sequences.open(1)
            return Timed(step.seconds().rest)

        return run

    return stopwatch.seconds(layers.shape, {"kind": "a step beside its attention"}, batch, BESIDE_TOKENS, prepare)
