"""Judging configurations by how they serve the workload's trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autokv.errors import AutoKVError, Interrupted
from autokv.evaluation.baselines import FLOAT8, UNCOMPRESSED
from autokv.evaluation.costs import CostCache
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.evaluation.metrics import METRICS
from autokv.hardware import HardwareProfile
from autokv.models import LoadedModel
from autokv.runs.judged import AUTOMATIC
from autokv.runs.simulated_engines import SimulatedEngines
from autokv.serving import SLO, KVMemory
from autokv.serving.advice import Advisor
from autokv.serving.compare import FLOAT8 as FLOAT8_NAME
from autokv.serving.compare import FULL, compare
from autokv.serving.comparison import Comparison
from autokv.serving.engine_options import usual_options
from autokv.serving.rate import default_slo, sustained_rate
from autokv.serving.simulator import SimulatedEngine
from autokv.serving.traffic import traffic
from autokv.tuning.objectives import TIE
from autokv.tuning.request import TuningRequest
from autokv.workload import WorkloadTrace

MAX_REQUESTS = 4000
"""Requests of a trace that every candidate serves, of a longer one from all over it; more cost time and hardly change
how candidates compare."""


class ServingJudge:
    """Serves one trace with any configuration, by simulation, on this device or on another.

    Args:
        model: the model.
        trace: the whole workload.
        request: what was asked about it.
        here: the device at hand, measured.
        target: the device to serve on; costs are measured here and scaled to it where it is another.
        cache: measured times, kept.
        check: called before each measurement; may raise to stop.

    Raises:
        WorkloadError: the trace has no arrivals, and the request no rate.
        RequestError: the device has no memory left for a block of a 16-bit cache.
    """

    def __init__(
        self,
        model: LoadedModel,
        trace: WorkloadTrace,
        request: TuningRequest,
        here: HardwareProfile,
        target: HardwareProfile,
        cache: CostCache,
        check: Callable[[], None],
    ) -> None:
        self._trace, notes = traffic(
            trace,
            context_tokens=model.facts.context_tokens,
            rate=request.rate,
            sample=MAX_REQUESTS,
            seed=request.seed,
        )
        self._target, self._options = target, usual_options(target.kind)
        self._engines = SimulatedEngines(
            model,
            self._trace,
            here=here,
            target=target,
            options=self._options,
            kv_memory=request.kv_memory,
            dtype=request.dtype,
            thorough=False,
            cache=cache,
            check=check,
        )
        full = self.full
        KVMemory(self._engines.capacity_bytes, full.costs.sequence, self._options.block_size)
        self._context_tokens, self._price = model.facts.context_tokens, request.price_per_hour
        self._slo = SLO(**request.slo) if request.slo else default_slo(self._trace, full.costs)
        self._asked = {"hardware": request.hardware, "rate": request.rate, "seed": request.seed, "sample": MAX_REQUESTS}
        self._asked["dtype"] = None if request.dtype == "auto" else request.dtype
        self._served: dict[str, dict[str, Statistics]] = {}
        self.notes = (
            *notes,
            *self._engines.notes,
            f"SLO: {self._slo}" + ("" if request.slo else AUTOMATIC),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What was served, where and how, ready for JSON."""
        return {
            "requests": len(self._trace),
            "requests_per_s": self._trace.summary().requests_per_s,
            "device": self._target.name,
            "kv_memory_bytes": self._engines.capacity_bytes,
            "slo": asdict(self._slo),
            "options": asdict(self._options),
            "dtype": self._engines.dtype,
            "basis": self.full.costs.basis,
            "predicted": self.full.costs.predicted,
            **self._asked,
            "notes": list(self.notes),
        }

    def each(self, results: Sequence[Measurement | AutoKVError]) -> list[Measurement | AutoKVError]:
        """``results``, each measurement :meth:`judged`, or why the trace cannot be served with its configuration."""
        found: list[Measurement | AutoKVError] = []
        for one in results:
            try:
                found.append(self.judged(one) if isinstance(one, Measurement) else one)
            except Interrupted:
                raise
            except AutoKVError as error:
                found.append(error)
        return found

    def judged(self, measurement: Measurement) -> Measurement:
        """``measurement`` with the metrics of serving the trace; its answers' length stretches the trace's."""
        ratio = _stretch(measurement)
        key = f"{measurement.config.digest} {ratio}"
        if key not in self._served:
            self._served[key] = self._serve(self._engines.engine("candidate", measurement.config, ratio))
        return replace(measurement, metrics={**measurement.metrics, **self._served[key]})

    def confirmed(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """``measurements``, served after all of their costs were timed again in turn, with what each sustains and, at a
        price, what its tokens cost."""
        self._engines.time_again([one.config for one in measurements])
        self._served.clear()
        return [self._confirmed(self.judged(one)) for one in measurements]

    def _confirmed(self, measurement: Measurement) -> Measurement:
        engine = self._engines.engine("candidate", measurement.config, _stretch(measurement))
        highest = sustained_rate(self._trace, engine, self._slo)
        rate = 0.0 if highest is None else highest.requests_per_s
        found = {"sustained_requests_per_s": rate}
        tokens = rate * float(np.mean(self._trace.output_tokens)) * _stretch(measurement)
        if self._price is not None and tokens:
            found["price_per_million_tokens"] = self._price / 3600 / tokens * 1e6
        statistics = {
            name: Statistics.of([value], maximize=METRICS[name].direction == "maximize")
            for name, value in found.items()
        }
        return replace(measurement, metrics={**measurement.metrics, **statistics})

    def advice(self, measurement: Measurement) -> tuple[str, ...]:
        """What would have to change for ``measurement``'s configuration to pay, or to pay no more."""
        candidate = self._engines.engine("candidate", measurement.config, _stretch(measurement))
        return Advisor(self._trace, candidate, self.full, self._slo, self._context_tokens, TIE).advice()

    @property
    def full(self) -> SimulatedEngine:
        """The engine with 16 bits."""
        return self._engines.engine(FULL, UNCOMPRESSED)

    @property
    def moved(self) -> float:
        """See :attr:`~autokv.evaluation.costs.meter.CostMeter.moved`."""
        return self._engines.moved

    def compared(self, measurement: Measurement, *, max_rate: bool) -> Comparison:
        """The configuration beside 16 bits and fp8 on the trace; with what each sustains, if ``max_rate``."""
        candidate = self._engines.engine("this configuration", measurement.config, _stretch(measurement))
        float8 = self._engines.engine(FLOAT8_NAME, FLOAT8)
        return compare(self._trace, candidate, self.full, float8, slo=self._slo, max_rate=max_rate, oversized="refuse")

    def _serve(self, engine: SimulatedEngine) -> dict[str, Statistics]:
        outcome = engine.serve(self._trace)
        report = outcome.report(self._slo)
        ttft, tpot = 1e3 * outcome.ttft_s, 1e3 * outcome.tpot_s
        values: Mapping[str, Any] = {
            "ttft_ms": ttft,
            "ttft_p95_ms": _p95(ttft),
            "tpot_ms": tpot,
            "tpot_p95_ms": _p95(tpot),
            "throughput_tokens_per_s": [report.throughput_tokens_per_s],
            "goodput_requests_per_s": [report.goodput_requests_per_s],
            "concurrent_requests": [engine.concurrent_requests(self._trace)],
        }
        return {
            name: Statistics.of(found, maximize=METRICS[name].direction == "maximize")
            for name, found in values.items()
            if len(found)
        }


def _stretch(measurement: Measurement) -> float:
    found = measurement.metrics.get("output_length_ratio")
    return 1.0 if found is None else found.mean


def _p95(values: NDArray[np.float64]) -> list[float]:
    return [float(np.percentile(values, 95))] if len(values) else []
