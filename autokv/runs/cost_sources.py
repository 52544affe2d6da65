"""Where the costs of a configuration come from: measured, from kernel tables, fitted to a log, or estimated."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, cast

from autokv.config import CompressionConfig, FP8Quantization, NoStage
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs.meter import CostMeter, bytes_of_sequences
from autokv.evaluation.costs.synthetic import Layers
from autokv.hardware import HardwareProfile
from autokv.hardware.silicon import SiliconTables, tables_of
from autokv.models.outline import ModelOutline
from autokv.runtime.plan import make_plan
from autokv.serving import CostModel, SequenceBytes, ServingOptions
from autokv.serving.calibration import Calibration, calibrate, doubts
from autokv.serving.cost_model import Dtype, ModelShape, Product, by_bytes
from autokv.serving.estimate import ATTAINED_BANDWIDTH, LAUNCH_US, estimate
from autokv.serving.server_log import ServerLog
from autokv.serving.silicon_costs import silicon_costs


class CostSource(Protocol):
    """Costs by configuration."""

    def costs(self, config: CompressionConfig) -> CostModel:
        """The cost model of ``config``; raises ConfigError where it cannot run on the model."""
        ...


def shape_of(outline: ModelOutline, dtype: str, weights_bytes: int) -> ModelShape:
    """The model as it is served in ``dtype``."""
    facts = outline.facts
    return ModelShape(
        parameters=facts.parameters,
        weights_bytes=weights_bytes,
        layers=facts.layers,
        query_heads=facts.query_heads,
        kv_heads=facts.kv_heads,
        head_dim=facts.head_dim,
        dtype=cast(Dtype, dtype),
        products=tuple(
            Product(outputs, inputs, count, head) for (outputs, inputs, head), count in outline.matrices.items()
        ),
        sliding_layers=facts.layers - len(facts.full_layers),
        window=facts.sliding_window,
    )


class CacheSizes:
    """Bytes of a request by configuration: what a cache of made-up tokens really holds, in a model without weights."""

    def __init__(self, outline: ModelOutline, longest: int) -> None:
        self._outline, self._longest = outline, longest
        self.model = outline.name
        self._known: dict[str, SequenceBytes] = {}

    @cached_property
    def _layers(self) -> Layers:
        make_plan(self._outline.caching.model, UNCOMPRESSED)  # gives it AutoKV's attention
        return Layers(self._outline.caching)

    def of(self, config: CompressionConfig) -> SequenceBytes:
        """Bytes of a request; raises ConfigError where ``config`` cannot run on the model."""
        if config.digest not in self._known:
            layers = self._layers
            plan = make_plan(self._outline.caching.model, config)
            self._known[config.digest] = bytes_of_sequences(layers, plan, self._longest)
        return self._known[config.digest]


class MeasuredCosts:
    """Times measured on this device, and scaled where another one serves.

    Args:
        meter: what measures.
        shape: of the model as it is measured.
        here: the device that it is measured on.
        served: the model as it is served.
        target: the device that serves.
        mean_tokens: of a request, its output included: what an eviction keeps a share of.
    """

    def __init__(
        self,
        meter: CostMeter,
        shape: ModelShape,
        here: HardwareProfile,
        served: ModelShape,
        target: HardwareProfile,
        mean_tokens: int,
    ) -> None:
        self._mean_tokens = mean_tokens
        self._meter, self._shape, self._here, self._served, self._target = meter, shape, here, served, target

    def costs(self, config: CompressionConfig) -> CostModel:
        """See :class:`CostSource`; measures what is not known yet."""
        eviction, tokens = config.pipeline.eviction, self._mean_tokens
        return estimate(
            self._meter.measure(config),
            self._shape,
            self._here,
            self._target,
            kept_share=1.0 if isinstance(eviction, NoStage) else eviction.budget(tokens) / tokens,
            served=self._served,
        )


class DerivedCosts:
    """Costs of a 16-bit cache that were found elsewhere; other caches change them by their bytes.

    Args:
        full: of the 16-bit cache.
        float8: of the engine's own fp8 cache, where that is known.
        sizes: bytes of requests.
        shape: of the model as it is served.
        target: the device that serves.
    """

    def __init__(
        self,
        full: CostModel,
        float8: CostModel | None,
        sizes: CacheSizes,
        shape: ModelShape,
        target: HardwareProfile,
    ) -> None:
        self._full, self._float8, self._sizes, self._shape, self._target = full, float8, sizes, shape, target

    def costs(self, config: CompressionConfig) -> CostModel:
        """See :class:`CostSource`; nothing is measured."""
        if config.pipeline.is_identity:
            return self._full
        sequence = self._sizes.of(config)
        stages = config.pipeline
        alone = isinstance(stages.eviction, NoStage) and isinstance(stages.low_rank, NoStage)
        if self._float8 is not None and alone and isinstance(stages.quantization, FP8Quantization):
            return replace(self._float8, sequence=sequence)
        target = self._target
        attained = ATTAINED_BANDWIDTH if target.source == "data sheet" else 1.0
        launch = target.launch_us.median if target.launch_us else LAUNCH_US[target.kind]
        return by_bytes(
            self._full,
            sequence,
            bandwidth=1e9 * target.copy_gb_per_s.median * attained,
            launch=launch / 1e6,
            layers=self._shape.layers,
        )


def tabled(sizes: CacheSizes, shape: ModelShape, target: HardwareProfile, options: ServingOptions) -> CostSource | None:
    """Costs from kernel tables; None where there are none for the device or the model."""
    tables = tables_of(target)
    return None if tables is None else _tabled(tables, sizes, shape, target, options)


def _tabled(
    tables: SiliconTables, sizes: CacheSizes, shape: ModelShape, target: HardwareProfile, options: ServingOptions
) -> CostSource | None:
    sequence = sizes.of(UNCOMPRESSED)
    common: dict[str, Any] = {"device": target.name, "max_batch": options.max_num_seqs}
    full = silicon_costs(tables, shape, sequence, **common)
    if full is None:
        return None
    return DerivedCosts(full, silicon_costs(tables, shape, sequence, **common, kv_dtype="fp8"), sizes, shape, target)


def fitted(
    log: ServerLog,
    sizes: CacheSizes,
    shape: ModelShape,
    target: HardwareProfile,
    options: ServingOptions,
    capacity_bytes: float,
) -> tuple[CostSource, Calibration]:
    """Costs fitted to the log of a server that ran the model in 16 bits on the target.

    Raises:
        RequestError: its memory holds none of the requests.
    """
    sequence = sizes.of(UNCOMPRESSED)
    found = calibrate(log, options, capacity_bytes, sequence)
    said = doubts(found, log, shape, model=sizes.model, device=target.name, bandwidth=1e9 * target.copy_gb_per_s.median)
    found = replace(found, notes=tuple(said))
    return DerivedCosts(found.costs.cost_model(sequence, found.words), None, sizes, shape, target), found
