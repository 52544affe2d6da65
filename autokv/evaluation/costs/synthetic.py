"""Made-up inputs for timing: the layers of a model as they call attention, and sequences that these layers hold."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from autokv.compression import CompressedKV, LayerContext, compress
from autokv.compression.budgets import layer_budgets
from autokv.compression.quantization import prompt_window
from autokv.config import CompressionConfig, NoStage
from autokv.evaluation.clock import MAX_SCRATCH_BYTES, last_level_cache_bytes
from autokv.models import LoadedModel
from autokv.runtime.attention import AttentionCall
from autokv.runtime.contents import LayerContents
from autokv.runtime.packed import packed_logits
from autokv.runtime.plan import Plan

_RAGGED = {"method": "knorm", "keep_ratio": 0.5, "sink_tokens": 0, "recent_tokens": 0, "head_budget": "adaptive"}
"""An eviction after which every head keeps another number of tokens."""


class NoAttention:
    """The mode of a pass whose attention costs nothing; keeps how every layer called."""

    def __init__(self) -> None:
        self.calls: dict[int, AttentionCall] = {}

    def attend(self, call: AttentionCall) -> Tensor:
        self.calls[call.layer] = call
        return torch.zeros_like(call.query)


class Layers:
    """Attention's calls in one model; it must have AutoKV's attention."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, self._facts = model, model.facts
        mode, zero = NoAttention(), torch.zeros(1, dtype=torch.int64)
        with torch.inference_mode():
            packed_logits(model.model, model.facts, mode, zero, zero, [0])
        calls = [mode.calls[layer] for layer in range(model.facts.layers)]
        self._dtype = calls[0].key.dtype
        self.full = [call for call in calls if call.sliding_window is None]
        """A call of every layer with full attention."""
        self.sliding = [call for call in calls if call.sliding_window is not None]
        self._scratch: Tensor | None = None
        self._generator = torch.Generator(model.device).manual_seed(0)

    @property
    def shape(self) -> dict[str, Any]:
        """What times of this model depend on, besides what is run."""
        facts = self._facts
        names = ("model_type", "layers", "query_heads", "kv_heads", "head_dim", "hidden_size", "vocab_size")
        return {
            **{name: getattr(facts, name) for name in (*names, "parameters")},
            "dtype": str(self._dtype).removeprefix("torch."),
            "softcap": self.full[0].softcap is not None,
        }

    def random(self, *shape: int) -> Tensor:
        """Made-up states in the model's dtype."""
        made = torch.randn(shape, generator=self._generator, device=self.model.device, dtype=torch.float32)
        return made.to(self._dtype)

    def prompt(self, call: AttentionCall, tokens: int) -> AttentionCall:
        """``call`` of a whole prompt of made-up tokens."""
        facts = self._facts
        # Tokens before heads in memory, as a model makes them.
        query, key, value = (
            self.random(1, tokens, heads, facts.head_dim).transpose(1, 2)
            for heads in (facts.query_heads, facts.kv_heads, facts.kv_heads)
        )
        return replace(call, query=query, key=key, value=value, mask=None, options={})

    def newest(self, call: AttentionCall, batch: int) -> AttentionCall:
        """``call`` of one made-up token for each of ``batch`` sequences."""
        facts = self._facts
        query, key, value = (
            self.random(batch, heads, 1, facts.head_dim)
            for heads in (facts.query_heads, facts.kv_heads, facts.kv_heads)
        )
        return replace(call, query=query, key=key, value=value, mask=None, options={})

    def arrive(self, call: AttentionCall) -> None:
        """Bring the processor's caches to what a layer finds: the tensors of ``call``, and no trace of the layer
        before, neither of its tensors nor of the code that ran."""
        if self._scratch is None:
            size = min(2 * last_level_cache_bytes(self.model.device), MAX_SCRATCH_BYTES)
            self._scratch = torch.ones(size // 4, device=self.model.device)
        self._scratch.sum()
        for tensor in (call.query, call.key, call.value):
            tensor.sum()


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
        room = min(contents.room(), max(self._plan.capacity, 1))
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


def held_tokens(plan: Plan, tokens: int) -> float:
    """What a layer holds of ``tokens`` seen, per KV head, mean over layers."""
    stage = plan.eviction
    return tokens if stage is None else fmean(layer_budgets(stage, tokens, len(plan.facts.full_layers)))


def first_room(plan: Plan, tokens: int) -> int:
    """Tokens that can be generated behind a prompt of ``tokens`` before a block leaves the window."""
    return plan.capacity - min(prompt_window(plan.config.pipeline), int(held_tokens(plan, tokens)))


def is_ragged(plan: Plan) -> bool:
    """Whether the heads of a layer hold different numbers of tokens."""
    return plan.eviction is not None and plan.eviction.head_budget == "adaptive"


def stored_form(config: CompressionConfig) -> dict[str, Any]:
    """How a token is stored."""
    stages = config.pipeline.model_dump(mode="json")
    return {"quantization": stages["quantization"], "low_rank": stages["low_rank"]}


def read_form(plan: Plan) -> dict[str, Any]:
    """What one step's attention reads, but for the number of tokens: the same for every method of eviction whose
    window is as long and that needs to know as much of attention."""
    window = {"window": plan.capacity, "block": plan.block, "tracked": plan.watched, "ragged": is_ragged(plan)}
    return {**stored_form(plan.config), **window}


def without_eviction(config: CompressionConfig, *, ragged: bool = False) -> CompressionConfig:
    """Quantization and low rank, with every token kept or, if ``ragged``, half of them."""
    stages = stored_form(config)
    return CompressionConfig.parse({"pipeline": {**stages, "eviction": _RAGGED} if ragged else {**stages}})


def only_eviction(config: CompressionConfig) -> CompressionConfig:
    """Eviction, of tokens held in 16 bits."""
    stages = {"quantization": NoStage(), "low_rank": NoStage()}
    return CompressionConfig(pipeline=config.pipeline.model_copy(update=stages))
