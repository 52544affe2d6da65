"""Where the costs of a configuration come from: measured, from kernel tables, fitted to a log, or estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, cast

from autokv.clocks import PROCESSOR_TIME, counts_processor_time
from autokv.config import CompressionConfig, FP8Quantization, NoStage
from autokv.evaluation.baselines import UNCOMPRESSED
from autokv.evaluation.costs import CostCache, KernelTime, key_of
from autokv.evaluation.costs.meter import CostMeter, bytes_of_sequences
from autokv.evaluation.costs.synthetic import Layers
from autokv.hardware import HardwareProfile, Rate
from autokv.hardware.silicon import tables_of
from autokv.models.outline import ModelOutline
from autokv.runtime.plan import make_plan
from autokv.serving import CostModel, SequenceBytes, ServingOptions
from autokv.serving.calibration import Calibration, calibrate, doubts
from autokv.serving.cost_model import Dtype, ModelShape, Product, by_bytes
from autokv.serving.estimate import ATTAINED_BANDWIDTH, LAUNCH_US, estimate
from autokv.serving.server_log import ServerLog
from autokv.serving.silicon_costs import silicon_costs

RATES = ("copy_gb_per_s", "float32_gflops", "bfloat16_gflops", "float16_gflops", "launch_us")
"""What times are scaled by."""


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


@dataclass(frozen=True)
class MeasuredCosts:
    """Times measured on this device, and scaled where another one serves."""

    meter: CostMeter
    shape: ModelShape
    """Of the model as it is measured."""
    here: HardwareProfile
    """The device that it is measured on."""
    served: ModelShape
    target: HardwareProfile
    """The device that serves."""
    mean_tokens: int
    """Of a request, its output included: what an eviction keeps a share of."""

    def costs(self, config: CompressionConfig) -> CostModel:
        """See :class:`CostSource`; measures what is not known yet."""
        eviction, tokens = config.pipeline.eviction, self.mean_tokens
        return estimate(
            self.meter.measure(config),
            self.shape,
            self.here,
            self.target,
            kept_share=1.0 if isinstance(eviction, NoStage) else eviction.budget(tokens) / tokens,
            served=self.served,
        )


@dataclass(frozen=True)
class DerivedCosts:
    """Costs of a 16-bit cache that were found elsewhere; other caches change them by their bytes."""

    full: CostModel
    """Of the 16-bit cache."""
    float8: CostModel | None
    """Of the engine's own fp8 cache, where that is known."""
    sizes: CacheSizes
    shape: ModelShape
    """Of the model as it is served."""
    target: HardwareProfile
    """The device that serves."""

    def costs(self, config: CompressionConfig) -> CostModel:
        """See :class:`CostSource`; nothing is measured."""
        stages, target = config.pipeline, self.target
        if stages.is_identity:
            return self.full
        sequence = self.sizes.of(config)
        alone = isinstance(stages.eviction, NoStage) and isinstance(stages.low_rank, NoStage)
        if self.float8 is not None and alone and isinstance(stages.quantization, FP8Quantization):
            return replace(self.float8, sequence=sequence)
        attained = ATTAINED_BANDWIDTH if target.source == "data sheet" else 1.0
        launch = target.launch_us.median if target.launch_us else LAUNCH_US[target.kind]
        return by_bytes(
            self.full,
            sequence,
            bandwidth=1e9 * target.copy_gb_per_s.median * attained,
            launch=launch / 1e6,
            layers=self.shape.layers,
        )


def tabled(sizes: CacheSizes, shape: ModelShape, target: HardwareProfile, options: ServingOptions) -> CostSource | None:
    """Costs from kernel tables; None where there are none for the device or the model."""
    tables = tables_of(target)
    if tables is None:
        return None
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


def kept_rates(probed: HardwareProfile, cache: CostCache) -> HardwareProfile:
    """``probed`` with the rates that are kept of this device; those of a device seen first are kept from now on.

    A machine that is busy, or warm, probes otherwise from minute to minute: times that were measured at one moment and
    rates of another would give another prediction at every call.

    Args:
        probed: the device, measured now.
        cache: where its times are kept.
    """
    found: dict[str, Any] = {}
    for name in RATES:
        rate: Rate | None = getattr(probed, name)
        if rate is None:
            continue
        document = _document(probed, name)
        key = key_of(document)
        time = cache.get(key)
        if time is None:
            time = KernelTime(_seconds(name, rate.median), 0.0, rate.n)
            cache.put(key, {**document, "rate": {"median": rate.median, "spread": rate.spread, "n": rate.n}}, time)
        found[name] = Rate(_rate(name, time.seconds), rate.spread, rate.n)
    return replace(probed, **found)


def _document(probed: HardwareProfile, name: str) -> Mapping[str, Any]:
    return {
        "stage": {"kind": "rate of the device", "rate": name},
        "device": probed.fingerprint,
        "threads": probed.threads,
        "torch": probed.torch_version,
        **(PROCESSOR_TIME if probed.kind == "cpu" and counts_processor_time() else {}),
    }


def _seconds(name: str, rate: float) -> float:
    """Of 10⁹ bytes or operations, or of one launch."""
    return rate / 1e6 if name == "launch_us" else 1.0 / rate


def _rate(name: str, seconds: float) -> float:
    return seconds * 1e6 if name == "launch_us" else 1.0 / seconds
