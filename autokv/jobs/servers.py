"""Servers of one model on one device: costs measured here, scaled to the device where it is another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, cast

import numpy as np

from autokv.config import CompressionConfig, NoStage
from autokv.evaluation.costs import CostCache
from autokv.evaluation.costs.meter import CostMeter
from autokv.evaluation.costs.sizes import activation_bytes, weights_bytes
from autokv.hardware import HardwareProfile
from autokv.models import LoadedModel
from autokv.serving import Server, ServingOptions, kv_capacity_bytes
from autokv.serving.estimate import ModelShape, estimate
from autokv.serving.prefixes import shareable
from autokv.workload import WorkloadTrace

UNSHARED = "what an eviction or a low-rank stage holds depends on the whole prompt, so prefixes are not shared"
IDENTITY = CompressionConfig.parse({"pipeline": {}})


class Servers:
    """Makes the server of any configuration; what configurations share is measured once.

    Args:
        model: the model, on the device at hand.
        trace: what will be served; decides the lengths that are measured.
        here: the device at hand, measured.
        target: the device to serve on.
        options: how it schedules.
        kv_memory: bytes for KV caches; by default what weights and activations leave of ``memory_share``.
        memory_share: share of the device's memory that is used at all.
        thorough: see :class:`~autokv.evaluation.costs.meter.CostMeter`.
        cache: measured times, kept.
        say: told, in a line, what is about to be measured.
        check: called before each measurement; may raise to stop.
    """

    def __init__(
        self,
        model: LoadedModel,
        trace: WorkloadTrace,
        *,
        here: HardwareProfile,
        target: HardwareProfile,
        options: ServingOptions,
        kv_memory: float | None = None,
        memory_share: float = 0.9,
        thorough: bool = True,
        cache: CostCache | None = None,
        say: Callable[[str], None] = lambda line: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        facts = model.facts
        weights = weights_bytes(model.model)
        self._here, self._target, self._options = here, target, options
        self._mean_tokens = max(1, round(float(np.mean(trace.input_tokens + trace.output_tokens))))
        self.capacity_bytes = kv_memory or kv_capacity_bytes(
            target.memory_bytes,
            weights_bytes=weights,
            activation_bytes=activation_bytes(facts, options.max_batched_tokens, model.dtype),
            memory_share=memory_share,
        )
        self._shape = ModelShape(
            parameters=facts.parameters,
            weights_bytes=weights,
            layers=facts.layers,
            query_heads=facts.query_heads,
            kv_heads=facts.kv_heads,
            head_dim=facts.head_dim,
            dtype=cast(Literal["float32", "bfloat16", "float16"], str(model.dtype).removeprefix("torch.")),
        )
        self._meter = CostMeter(
            model,
            fingerprint=here.fingerprint,
            longest_tokens=int((trace.input_tokens + trace.output_tokens).max()),
            max_batch=options.max_sequences,
            max_batched_tokens=options.max_batched_tokens,
            output_tokens=max(1, round(float(np.mean(trace.output_tokens)))),
            thorough=thorough,
            cache=cache,
            say=say,
            check=check,
        )

    def server(self, name: str, config: CompressionConfig, output_length_ratio: float = 1.0) -> Server:
        """The server of ``config``; measures what is not known yet.

        Raises:
            ConfigError: the configuration cannot run on the model.
        """
        eviction, tokens = config.pipeline.eviction, self._mean_tokens
        costs = estimate(
            self._meter.measure(config),
            self._shape,
            self._here,
            self._target,
            kept_share=1.0 if isinstance(eviction, NoStage) else eviction.budget(tokens) / tokens,
        )
        options, link = self._options, self._target.link_gb_per_s
        alone = options.prefix_caching and not shareable(config)
        return Server(
            name,
            costs,
            self.capacity_bytes,
            replace(options, prefix_caching=False) if alone else options,
            None if link is None else link.median,
            output_length_ratio,
            (UNSHARED,) if alone else (),
        )

    def time_again(self, configs: Sequence[CompressionConfig]) -> None:
        """See :meth:`~autokv.evaluation.costs.meter.CostMeter.again`."""
        self._meter.again(configs)

    @property
    def moved(self) -> float:
        """See :attr:`~autokv.evaluation.costs.meter.CostMeter.moved`."""
        return self._meter.moved
