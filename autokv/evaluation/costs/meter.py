"""``CostMeter``: the cost model of a configuration on this machine, from few timed runs; bytes of weights and cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import nn

from autokv.clocks import clock_of
from autokv.config import CompressionConfig, EvictionStage
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs.cost_cache import CostCache, MemoryCache
from autokv.evaluation.costs.decode import attention_while_decoding
from autokv.evaluation.costs.prefill import (
    attention_within_prompts,
    compression_of_prompts,
    first_layers,
    rest_of_the_model,
)
from autokv.evaluation.costs.synthetic import Layers
from autokv.evaluation.costs.timing import Stopwatch
from autokv.models import LoadedModel, ModelFacts
from autokv.runtime.contents import LayerContents
from autokv.runtime.layer import open_contents
from autokv.runtime.plan import Plan, make_plan
from autokv.serving.cost_model import CostModel
from autokv.serving.curves import Curve
from autokv.serving.kv_memory import SequenceBytes

OUTPUT_TOKENS = 256
YARDSTICK_TOKENS = 8
YARDSTICK_SHARE = 1 / 3
"""Of the layers of a pass without attention: it reads weights, as a decoding step does, and costs less."""
ROUNDS = 5
"""In which forms are timed again, in turn: more than the runs of the first time, whose outliers they outvote."""
LONGEST_COUNTED = 2048
"""Tokens of the longest prompt whose bytes are counted, unless a window holds many of them; they grow on beyond it."""
SHORTEST_COUNTED = 64
"""Tokens of the shortest request that counts where a budget in tokens bends the line."""


class CostMeter:
    """Measures what serving costs, configuration by configuration; what they share is measured once.

    The model is given AutoKV's attention.

    Args:
        model: the model, on the device that is measured.
        fingerprint: of the device, see :class:`autokv.hardware.HardwareProfile`.
        longest_tokens: of a request, its output included; no more than the model's context is measured.
        max_batch: requests that decode at once.
        max_num_batched_tokens: of one iteration.
        output_tokens: of a request, on average: what a window holds and how often a block leaves it follow from it.
        thorough: time at all sizes, and decoding with what was generated beside the prompt; else, as for a search over
            many configurations, at few sizes, less often, and over prompts alone.
        cache: where times are kept for later; None keeps them for this meter alone.
        say: told in a few words what is about to be measured.
        check: called before every measurement; may raise to stop.
        now: seconds; None takes the device's clock, see :func:`~autokv.clocks.clock_of`.

    Raises:
        ModelError: the model cannot be compressed.
        RequestError: a setting makes no sense.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        fingerprint: str,
        longest_tokens: int,
        max_batch: int,
        max_num_batched_tokens: int,
        output_tokens: int = OUTPUT_TOKENS,
        thorough: bool = True,
        cache: CostCache | None = None,
        say: Callable[[str], None] = lambda line: None,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._plain = plan = make_plan(model.model, UNCOMPRESSED)
        self._model = model
        self._layers = Layers(model)
        now = now or clock_of(model.device)
        self._stopwatch = Stopwatch(
            fingerprint,
            plan.kernels.name,
            now,
            cache or MemoryCache(),
            say,
            check,
            first_layers(self._layers, YARDSTICK_SHARE, YARDSTICK_TOKENS, now),
        )
        self._longest = max(1, min(longest_tokens, model.facts.context_tokens))
        self._max_batch, self._max_num_batched_tokens = max(1, max_batch), max(1, max_num_batched_tokens)
        self._sequence_bytes: dict[str, SequenceBytes] = {}
        self._output_tokens, self._thorough = max(1, output_tokens), thorough

    def measure(self, config: CompressionConfig) -> CostModel:
        """The cost model of ``config``; measures what is not known yet.

        Raises:
            ConfigError: the configuration cannot run on the model.
        """
        plan = make_plan(self._model.model, config)
        with torch.inference_mode():
            return CostModel(
                rest=self._rest,
                prefill_attention=self._within_prompts,
                compress=compression_of_prompts(
                    self._layers, plan, self._stopwatch, self._longest, thorough=self._thorough
                ),
                decode_attention=attention_while_decoding(
                    self._layers,
                    plan,
                    self._stopwatch,
                    self._longest,
                    self._max_batch,
                    self._output_tokens,
                    thorough=self._thorough,
                ),
                sequence=self._bytes(plan),
            )

    def again(self, configs: Sequence[CompressionConfig]) -> None:
        """Time what distinguishes ``configs`` anew, in turn, and pool it with what was measured before: the next
        :meth:`measure` of each knows it."""
        with torch.inference_mode():
            keys = [self._keys(config) for config in configs]
            if len(keys) > 1:
                shared = keys[0].intersection(*keys[1:])
                self._stopwatch.again(keys[0].union(*keys[1:]) - shared, ROUNDS)

    @property
    def moved(self) -> float:
        """See :attr:`~autokv.evaluation.costs.timing.Stopwatch.moved`."""
        return self._stopwatch.moved

    def _bytes(self, plan: Plan) -> SequenceBytes:
        digest = plan.config.digest
        if digest not in self._sequence_bytes:
            self._sequence_bytes[digest] = bytes_of_sequences(self._layers, plan, self._longest)
        return self._sequence_bytes[digest]

    def _keys(self, config: CompressionConfig) -> set[str]:
        with self._stopwatch.used() as keys:
            self.measure(config)
        return keys

    @cached_property
    def _rest(self) -> Curve:
        return rest_of_the_model(
            self._layers, self._plain, self._stopwatch, self._max_num_batched_tokens, self._max_batch
        )

    @cached_property
    def _within_prompts(self) -> Curve:
        return attention_within_prompts(self._layers, self._stopwatch, self._longest)


def bytes_of_sequences(layers: Layers, plan: Plan, longest: int) -> SequenceBytes:
    """What a request holds, its windows as they are allocated: a line through prompts that are really compressed.

    A prompt of several chunks is held in 16 bits until its last one, unless nothing is compressed anyway.
    """
    facts, stage = plan.facts, plan.eviction
    most = longest if stage is None or stage.keep_tokens is None else stage.keep_tokens
    last = max(4, min(most, longest, max(LONGEST_COUNTED, 4 * plan.capacity)))
    sizes = sorted({max(1, last // 4), last // 2, max(1, 3 * last // 4), last})
    held = [_held(layers, plan, size) for size in sizes]
    per_token, per_sequence = np.polyfit(sizes, held, 1) if len(sizes) > 1 else (held[0] / sizes[0], 0.0)
    if most < longest:
        per_token, per_sequence = _bent(float(per_token), float(per_sequence), most, longest)
    return SequenceBytes(
        per_token=float(per_token),
        per_sequence=max(0.0, float(per_sequence)) + facts.windowed_kv_bytes,
        staged_per_token=0.0 if plan.config.pipeline.is_identity else float(facts.kv_bytes_per_token),
    )


def _bent(per_token: float, per_sequence: float, most: int, longest: int) -> tuple[float, float]:
    """The line nearest to one that is level from ``most`` tokens on, over lengths up to ``longest``, short ones more
    often than long ones."""
    lengths = np.geomspace(min(SHORTEST_COUNTED, longest / 2), longest, 65)
    slope, offset = np.polyfit(lengths, per_token * np.minimum(lengths, most) + per_sequence, 1)
    return float(slope), float(offset)


@torch.inference_mode()
def _held(layers: Layers, plan: Plan, tokens: int) -> float:
    """Bytes of all full-attention layers; budgets of layers lie on a line, so that its ends tell the sum."""
    stage = plan.eviction
    uniform = not isinstance(stage, EvictionStage) or stage.layer_budget == "uniform"
    ends = layers.full[:1] if uniform else [layers.full[0], layers.full[-1]]
    counted = [_opened(open_contents(plan, layers.prompt(call, tokens), call.layer)) for call in ends]
    return len(layers.full) * sum(counted) / len(counted)


def _opened(contents: LayerContents) -> int:
    contents.room()
    return sum(tensor.nbytes for tensor in contents.held())


def weights_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers; what is tied counts once."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def activation_bytes(facts: ModelFacts, tokens: int, dtype: torch.dtype, *, rows: int = 1) -> int:
    """An estimate of what an iteration over ``tokens`` needs at once besides weights and caches.

    Of one layer: residual stream and its norm, two hidden vectors; then queries, keys, values and attention's output,
    or an MLP's two intermediate vectors and their product, whichever is larger. The MLP's width is what a layer's
    parameters leave for three matrices. On top, float32 logits of ``rows`` tokens and their copy in ``dtype``.
    """
    hidden, width = facts.hidden_size, facts.head_dim
    attention = (2 * facts.query_heads + 2 * facts.kv_heads) * width
    layer = (facts.parameters - facts.vocab_size * hidden) / facts.layers
    intermediate = max(hidden, (layer - attention * hidden) / (3 * hidden))
    per_token = (2 * hidden + max(attention, 3 * intermediate)) * dtype.itemsize
    return int(tokens * per_token + rows * facts.vocab_size * (4 + dtype.itemsize))
