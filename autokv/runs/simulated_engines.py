"""Simulated engines of one model on one device: costs measured here where it is this device, else predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from autokv.config import CompressionConfig
from autokv.errors import ModelError
from autokv.evaluation.costs import CostCache
from autokv.evaluation.costs.meter import CostMeter, activation_bytes, weights_bytes
from autokv.hardware import HardwareProfile
from autokv.hardware.catalog import silicon_name
from autokv.hardware.silicon import tables_installed
from autokv.models import LoadedModel
from autokv.models.outline import ModelOutline, outline_of
from autokv.models.placement import DTYPES
from autokv.runs.cost_sources import CacheSizes, CostSource, MeasuredCosts, fitted, kept_rates, shape_of, tabled
from autokv.serving import ServingOptions, SimulatedEngine, kv_capacity_bytes
from autokv.serving.calibration import Calibration
from autokv.serving.prefixes import shareable
from autokv.serving.server_log import ServerLog
from autokv.workload import WorkloadTrace

UNSHARED = "what an eviction or a low-rank stage holds depends on the whole prompt, so prefixes are not shared"
INSTALL = "pip install 'autokv[silicon]'"


class SimulatedEngines:
    """Makes the engine of any configuration; what configurations share is measured once.

    Costs are fitted to ``log`` where there is one; measured where the target is the device at hand; taken from tables
    of kernel times where they know the target and the model; else measured here and scaled.

    Args:
        model: the model, on the device at hand, or its outline, which cannot be measured.
        trace: what will be served; decides the lengths that are measured.
        here: the device at hand, measured.
        target: the device to serve on.
        options: how it schedules.
        kv_memory: bytes for KV caches; by default what weights and activations leave of ``memory_share``.
        memory_share: share of the device's memory that is used at all.
        dtype: that another device serves in; ``auto`` is the checkpoint's own on a GPU.
        log: of a server that ran the model on the target.
        thorough: see :class:`~autokv.evaluation.costs.meter.CostMeter`.
        cache: measured times, kept.
        say: told, in a line, what is about to be measured.
        check: called before each measurement; may raise to stop.

    Raises:
        ModelError: an outline's costs would have to be measured.
        RequestError: costs cannot be fitted to the log.
    """

    def __init__(
        self,
        model: LoadedModel | ModelOutline,
        trace: WorkloadTrace,
        *,
        here: HardwareProfile,
        target: HardwareProfile,
        options: ServingOptions,
        kv_memory: float | None = None,
        memory_share: float = 0.9,
        dtype: str = "auto",
        log: ServerLog | None = None,
        thorough: bool = True,
        cache: CostCache,
        say: Callable[[str], None] = lambda line: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        loaded = model if isinstance(model, LoadedModel) else None
        outline = outline_of(model) if isinstance(model, LoadedModel) else model
        facts, elsewhere = outline.facts, here.fingerprint != target.fingerprint
        served_in = outline.dtype if loaded is None else loaded.dtype
        if dtype in DTYPES:
            served_in = DTYPES[dtype]
        elif (elsewhere or log is not None) and target.kind != "cpu":
            served_in = outline.dtype
        self.model = outline.name
        """Its name."""
        self.dtype = str(served_in).removeprefix("torch.")
        """That the model is served in."""
        held_bytes = facts.parameters * served_in.itemsize
        if loaded is not None and loaded.dtype == served_in:
            held_bytes = weights_bytes(loaded.model)
        self._target, self._options = target, options
        self.capacity_bytes = kv_memory or kv_capacity_bytes(
            target.memory_bytes,
            weights_bytes=held_bytes,
            activation_bytes=activation_bytes(facts, options.max_num_batched_tokens, served_in),
            memory_share=memory_share,
        )
        longest = int((trace.input_tokens + trace.output_tokens).max())
        sizes = CacheSizes(outline, max(1, min(longest, facts.context_tokens)))
        served = shape_of(outline, self.dtype, held_bytes)
        self.calibration: Calibration | None = None
        """What was fitted, where there was a log."""
        source: CostSource | None = None
        meter: CostMeter | None = None
        if log is not None:
            say("fitting costs to the log")
            source, self.calibration = fitted(log, sizes, served, target, options, self.capacity_bytes)
        elif elsewhere:
            source = tabled(sizes, served, target, options)
        if source is None:
            if loaded is None:
                raise ModelError("its costs have to be measured, which takes its weights", field=facts.name)
            meter = CostMeter(
                loaded,
                fingerprint=here.fingerprint,
                longest_tokens=longest,
                max_batch=options.max_num_seqs,
                max_num_batched_tokens=options.max_num_batched_tokens,
                output_tokens=max(1, round(float(np.mean(trace.output_tokens)))),
                thorough=thorough,
                cache=cache,
                say=say,
                check=check,
            )
            as_measured = shape_of(outline, str(loaded.dtype).removeprefix("torch."), weights_bytes(loaded.model))
            mean = max(1, round(float(np.mean(trace.input_tokens + trace.output_tokens))))
            source = MeasuredCosts(meter, as_measured, kept_rates(here, cache), served, target, mean)
        self._source, self._meter = source, meter
        self.notes: tuple[str, ...] = ()
        """What a reader of every figure must know of them."""
        if elsewhere and log is None and not tables_installed() and silicon_name(target):
            self.notes = (f"for kernel times that were measured on {target.name}, run {INSTALL}",)

    def engine(self, name: str, config: CompressionConfig, output_length_ratio: float = 1.0) -> SimulatedEngine:
        """The engine of ``config``; measures what is not known yet.

        Raises:
            ConfigError: the configuration cannot run on the model.
        """
        costs = self._source.costs(config)
        options, link = self._options, self._target.link_gb_per_s
        alone = options.prefix_caching and not shareable(config)
        return SimulatedEngine(
            name,
            costs,
            self.capacity_bytes,
            replace(options, prefix_caching=False) if alone else options,
            None if link is None else link.median,
            output_length_ratio,
            (UNSHARED,) if alone else (),
        )

    def time_again(self, configs: Sequence[CompressionConfig]) -> None:
        """See :meth:`~autokv.evaluation.costs.meter.CostMeter.again`; costs that are not measured stay."""
        if self._meter is not None:
            self._meter.again(configs)

    @property
    def moved(self) -> float:
        """See :attr:`~autokv.evaluation.costs.meter.CostMeter.moved`; 1 of costs that are not measured."""
        return 1.0 if self._meter is None else self._meter.moved
