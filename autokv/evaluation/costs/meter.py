"""``CostMeter``: the cost model of a configuration on this machine, from few timed runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from autokv.config import CompressionConfig
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs.cache import CostCache, MemoryCache
from autokv.evaluation.costs.compression import compression_of_prompts
from autokv.evaluation.costs.decoding import attention_while_decoding
from autokv.evaluation.costs.layers import Layers
from autokv.evaluation.costs.sizes import bytes_of_sequences
from autokv.evaluation.costs.timing import Stopwatch, clock_of
from autokv.evaluation.costs.whole import attention_within_prompts, first_layers, rest_of_the_model
from autokv.models import LoadedModel
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


class CostMeter:
    """Measures what serving costs, configuration by configuration; what they share is measured once.

    The model is given AutoKV's attention.

    Args:
        model: the model, on the device that is measured.
        fingerprint: of the device, see :class:`autokv.hardware.HardwareProfile`.
        longest_tokens: of a request, its output included; no more than the model's context is measured.
        max_batch: requests that decode at once.
        max_batched_tokens: of one iteration.
        output_tokens: of a request, on average: what a window holds and how often a block leaves it follow from it.
        thorough: time at all sizes, and decoding with what was generated beside the prompt; else, as for a search over
            many configurations, at few sizes, less often, and over prompts alone.
        cache: where times are kept for later; None keeps them for this meter alone.
        say: told in a few words what is about to be measured.
        check: called before every measurement; may raise to stop.
        now: seconds; None takes the machine's clock, behind the device's queue.

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
        max_batched_tokens: int,
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
        self._max_batch, self._max_batched_tokens = max(1, max_batch), max(1, max_batched_tokens)
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
        return rest_of_the_model(self._layers, self._plain, self._stopwatch, self._max_batched_tokens, self._max_batch)

    @cached_property
    def _within_prompts(self) -> Curve:
        return attention_within_prompts(self._layers, self._stopwatch, self._longest)
