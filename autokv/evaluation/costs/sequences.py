"""Sequences made up for timing: what a model's layers hold of them, in a configuration's form."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.compression import CompressedKV, LayerContext, compress
from autokv.evaluation.clock import last_level_cache_bytes
from autokv.evaluation.costs.forms import is_ragged, without_eviction
from autokv.evaluation.costs.layers import Layers
from autokv.runtime.attention import AttentionCall
from autokv.runtime.contents import LayerContents
from autokv.runtime.plan import Plan


class Sequences:
    """``batch`` sequences that hold ``tokens`` tokens of a prompt in every layer with full attention.

    The compressed prompts lie in memory of their own until they exceed twice the last-level cache; beyond that, and
    they are only read, layers share them. Each has a window of its own.

    Args:
        layers: of the model.
        plan: the configuration; what it evicts is left out of the prompt.
        tokens: held per KV head, on average.
        batch: sequences.
        joined: the sequences of a layer are one batch of the kernels.
        depth: layers that hold them, the first ones; all of them if None.
    """

    def __init__(
        self, layers: Layers, plan: Plan, tokens: int, batch: int, *, joined: bool, depth: int | None = None
    ) -> None:
        self._layers, self._plan = layers, plan
        depth = depth or len(layers.full)
        prompts = [self._prompt(layers.full[0], tokens)]
        size = sum(tensor.nbytes for tensor in LayerContents(plan, prompts[0], self._context(0)).held())
        enough = 2 * last_level_cache_bytes(layers.model.device) // max(1, size) + 1
        groups = 1 if joined else batch
        prompts += [self._copy(prompts[0]) for _ in range(1, min(enough, groups * depth))]
        if joined:
            prompts = [prompt.select(self._first(batch)) for prompt in prompts]
        self.contents = [
            [
                LayerContents(plan, prompts[(index * groups + place) % len(prompts)], self._context(index))
                for place in range(groups)
            ]
            for index in range(depth)
        ]
        """By layer: of every sequence, or of all of them together."""

    def open(self, room: int) -> None:
        """Make place for ``room`` tokens to be appended to every sequence before a block has to leave."""
        for layer in self.contents:
            for contents in layer:
                while contents.room() < room:
                    self._fill(contents)

    def grow(self) -> None:
        """Let as many tokens be generated that the window holds nothing of the prompt."""
        for layer in self.contents:
            for contents in layer:
                for _ in range(self._plan.capacity // self._plan.block + 1):
                    self._fill(contents)
                contents.room()

    def fill(self) -> None:
        """Append until the next token makes a block leave every window."""
        for layer in self.contents:
            for contents in layer:
                self._fill(contents)

    def held_tokens(self) -> float:
        """Per KV head, mean over heads, of the first sequence in the first layer."""
        return sum(
            float(part.older.lengths.float().mean()) + part.residual_tokens for part in self.contents[0][0].parts()
        )

    def _fill(self, contents: LayerContents) -> None:
        room = contents.room()
        head_dim = self._layers.model.facts.head_dim
        contents.append(*(self._layers.random(contents.rows, room, head_dim) for _ in range(2)))

    def _context(self, index: int) -> LayerContext:
        call, count = self._layers.full[index], len(self._layers.full)
        return LayerContext(index, count, call.scaling, softcap=call.softcap, kernels=self._plan.kernels)

    def _prompt(self, call: AttentionCall, tokens: int) -> CompressedKV:
        ragged = is_ragged(self._plan) and tokens > 1
        made = self._layers.prompt(call, 2 * tokens if ragged else tokens)
        config = without_eviction(self._plan.config, ragged=ragged)
        return compress(made.key, made.value, self._context(0), config)

    def _copy(self, prompt: CompressedKV) -> CompressedKV:
        return prompt.select(self._first(1))

    def _first(self, times: int) -> Tensor:
        return torch.zeros(times, dtype=torch.int64, device=self._layers.model.device)
