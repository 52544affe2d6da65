"""The time of attention while decoding, as the runtime does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor

from autokv.evaluation.clock import ColdClock
from autokv.evaluation.costs.forms import first_room, held_tokens, read_form
from autokv.evaluation.costs.layers import Layers
from autokv.evaluation.costs.points import geometric
from autokv.evaluation.costs.sequences import Sequences
from autokv.evaluation.costs.timing import Stopwatch
from autokv.runtime.attention import AttentionCall
from autokv.runtime.continuing import attend_one
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan
from autokv.serving.curves import Curve, Grid

SHORTEST = 64
RATIO = 4.0
RUNS = 4
LEAVING_RUNS = 3
ROOM = 2 * (RUNS + 1)
"""Tokens that a window must take while it is timed without a block leaving it."""
BATCHES = {"cpu": (1, 4), "cuda": (1, 8, 64)}
"""Sequences that are timed; more of them cost in proportion."""

State = Literal["prompt", "grown", "leaving"]
"""What a sequence holds: its prompt and a window; also blocks that were generated; a window that a block leaves at
this step."""


def attention_while_decoding(
    layers: Layers, plan: Plan, stopwatch: Stopwatch, longest: int, max_batch: int, output_tokens: int
) -> Grid:
    """(Batch, tokens seen per sequence) to seconds of one step's attention, all layers with full attention.

    Blocks that leave windows are spread over an output of ``output_tokens``.
    """
    room = first_room(plan, longest)
    alone = min(1.0, room / output_tokens) if room >= ROOM else 0.0
    blocks = max(0.0, output_tokens - room) / plan.block / output_tokens
    times = _Times(layers, plan, stopwatch, max(1, round(held_tokens(plan, longest))), max_batch)
    states: dict[State, bool] = {"prompt": alone > 0, "grown": alone < 1}
    times.measure([state for state, occurs in states.items() if occurs])
    leaving = times.leaving() if blocks else 0.0
    points = []
    for batch in times.batches:
        for tokens in geometric(SHORTEST, longest):
            held = held_tokens(plan, tokens)
            seconds = alone * times.curve("prompt", batch)(held) if alone else 0.0
            if alone < 1:
                seconds += (1 - alone) * times.curve("grown", batch)(held)
            points.append((batch, float(tokens), len(layers.full) * (seconds + blocks * batch * leaving)))
    return Grid.fit(points)


class _Times:
    """Seconds of one layer's attention by state and batch, over tokens held."""

    def __init__(self, layers: Layers, plan: Plan, stopwatch: Stopwatch, longest: int, max_batch: int) -> None:
        self._layers, self._plan, self._stopwatch = layers, plan, stopwatch
        self._joined = layers.model.device.type == "cuda"
        self.batches = sorted({min(batch, max_batch) for batch in BATCHES[layers.model.device.type]})
        self._sizes = geometric(SHORTEST, longest, RATIO)
        self._points: dict[tuple[State, int], list[tuple[float, float]]] = {}
        self._sequences: tuple[int, int, State, Sequences] | None = None

    def measure(self, states: Sequence[State]) -> None:
        """All points of ``states``."""
        for size in self._sizes:
            for state in states:
                # What was generated costs about as much behind any prompt.
                if state == "prompt" or len(states) == 1 or size in (self._sizes[0], self._sizes[-1]):
                    more = self._generated if state == "grown" else 0.0
                    for batch in self.batches:
                        points = self._points.setdefault((state, batch), [])
                        points.append((size + more, self._time(state, batch, size)))
        self._sequences = None

    def curve(self, state: State, batch: int) -> Curve:
        """Tokens held to seconds."""
        return Curve.fit(self._points[state, batch])

    def leaving(self) -> float:
        """Seconds of a block that leaves one sequence's window in one layer."""
        size = self._sizes[0]
        return max(0.0, self._time("leaving", 1, size) - self._time("grown", 1, size))

    @cached_property
    def _generated(self) -> float:
        """Tokens that a grown sequence holds besides its prompt."""
        size = self._sizes[0]
        alone = Sequences(self._layers, self._plan, size, 1, joined=False, depth=1)
        alone.grow()
        alone.open(ROOM)
        return alone.held_tokens() - size

    def _time(self, state: State, batch: int, size: int) -> float:
        stage: dict[str, Any] = {"kind": "attention while decoding", "state": state, **read_form(self._plan)}
        if state == "leaving" and self._plan.eviction is not None:
            stage["eviction"] = self._plan.eviction.model_dump(mode="json")
        measure = partial(self._measure, state, batch, size)
        return self._stopwatch.seconds(self._layers.shape, stage, batch, size, measure)

    @torch.inference_mode()
    def _measure(self, state: State, batch: int, size: int) -> list[float]:
        sequences = self._made(state, batch, size)
        if self._joined:
            return self._cold(sequences, state, batch)
        step = _Pass(self._layers, self._plan, sequences, batch, self._stopwatch.now)
        if state == "leaving":
            return [self._leave(sequences, step) for _ in range(LEAVING_RUNS)]
        sequences.open(ROOM)
        step.seconds()
        return [step.seconds() for _ in range(RUNS)]

    def _leave(self, sequences: Sequences, step: _Pass) -> float:
        sequences.fill()
        return step.seconds()

    def _cold(self, sequences: Sequences, state: State, batch: int) -> list[float]:
        """Every layer by itself, what it reads out of the caches."""
        clock, found = ColdClock(self._layers.model.device), []
        call = self._layers.newest(self._layers.full[0], batch)
        for (contents,) in sequences.contents[: 2 * RUNS]:
            if state == "leaving":
                sequences.fill()
            else:
                attend_one(self._plan, contents, call)
            found.append(clock.us(lambda contents=contents: attend_one(self._plan, contents, call)) / 1e6)  # type: ignore[misc]
        return found

    def _made(self, state: State, batch: int, size: int) -> Sequences:
        """Sequences in ``state``; those of the last call where they can become what is asked for."""
        batch = batch if self._joined else max(self.batches)
        if self._sequences is not None:
            was_size, was_batch, was_state, sequences = self._sequences
            if (was_size, was_batch) == (size, batch) and (was_state == state or was_state == "prompt"):
                if was_state != state:
                    sequences.grow()
                self._sequences = size, batch, state, sequences
                return sequences
        self._sequences = None
        sequences = Sequences(self._layers, self._plan, size, batch, joined=self._joined)
        if state != "prompt":
            sequences.grow()
        self._sequences = size, batch, state, sequences
        return sequences


class _Pass:
    """The mode of a whole model's step over ``batch`` sequences, one after the other, as a packed batch decodes.

    Between two layers the model reads its weights, so that attention finds the caches, of the processor and of the
    interpreter, as it does in a server.
    """

    def __init__(self, layers: Layers, plan: Plan, sequences: Sequences, batch: int, now: Callable[[], float]) -> None:
        self._model, self._plan, self._now = layers.model, plan, now
        self._contents = {call.layer: contents for call, contents in zip(layers.full, sequences.contents, strict=True)}
        self._batch, self._seconds = batch, 0.0

    def seconds(self) -> float:
        """Of one step's attention, one layer."""
        self._seconds = 0.0
        ids = torch.arange(self._batch)
        packed_logits(self._model.model, self, ids, ids, range(self._batch))
        return self._seconds / len(self._contents)

    def attend(self, call: AttentionCall) -> Tensor:
        if call.layer not in self._contents:
            return torch.zeros_like(call.query)
        start = self._now()
        output = torch.empty_like(call.query.transpose(1, 2), memory_format=torch.contiguous_format)
        call = replace(call, mask=None, options={})
        for place, contents in enumerate(self._contents[call.layer][: self._batch]):
            one = slice(place, place + 1)
            part = replace(call, query=call.query[:, :, one], key=call.key[:, :, one], value=call.value[:, :, one])
            output[:, place] = attend_one(self._plan, contents, part)[:, :, 0]
        self._seconds += self._now() - start
        return output.transpose(1, 2)
