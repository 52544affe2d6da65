"""A trace served with a configuration, beside 16 bits and fp8: what a simulation is asked for, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autokv.config import ConfigurationDocument
from autokv.errors import ModelError
from autokv.evaluation.baselines import FLOAT8, UNCOMPRESSED
from autokv.evaluation.costs import CostCache
from autokv.hardware import HardwareProfile, find, probe
from autokv.models import LoadedModel, load
from autokv.models.outline import ModelOutline, outline
from autokv.models.placement import choose_device
from autokv.report.describe import describe
from autokv.runs.judged import Judged
from autokv.runs.simulated_engines import SimulatedEngines
from autokv.serving import SLO, ServingOptions, SimulatedEngine
from autokv.serving.compare import FLOAT8 as FLOAT8_NAME
from autokv.serving.compare import FULL, compare
from autokv.serving.comparison import Comparison
from autokv.serving.engine_options import usual_options
from autokv.serving.server_log import ServerLog
from autokv.serving.traffic import traffic
from autokv.workload import WorkloadTrace
from autokv.workload.transform import scale_rate


@dataclass(frozen=True)
class SimulationRequest:
    """What is asked about a configuration; what is ``None`` is as its document says, else as usual."""

    document: ConfigurationDocument
    model: str
    hardware: str | None = None
    """Device to serve on: here, a catalog name or a file."""
    log: ServerLog | None = None
    """Of a server on that device: costs are fitted to it."""
    baseline: bool = True
    """Whether 16 bits and fp8 serve the trace too."""
    slo: SLO | None = None
    rate: float | None = None
    """Requests per second, instead of the trace's own."""
    rate_scale: float | None = None
    requests: int | None = None
    """The first so many."""
    closed_loop: bool = True
    max_rate: bool = False
    options: Callable[[ServingOptions], ServingOptions] = lambda usual: usual
    """Changes the usual options."""
    memory_share: float = 0.9
    kv_memory: float | None = None
    """Bytes."""
    output_length_ratio: float | None = None
    refuse_oversized: bool = False
    seed: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    """To measure costs on."""


@dataclass(frozen=True)
class Simulated:
    """What was served, where and how, and what came of it."""

    comparison: Comparison
    engines: SimulatedEngines
    target: HardwareProfile
    trace: WorkloadTrace
    """As it was served."""
    options: ServingOptions
    ratio: float
    """Of the lengths of outputs to the trace's."""
    notes: tuple[str, ...]


class Simulation:
    """A simulation whose device and options are known.

    Raises:
        InputError: the device or an option cannot be used.
    """

    def __init__(self, asked: SimulationRequest) -> None:
        self._asked = asked
        self._judged = judged = Judged.of(asked.document)
        self._here = probe(choose_device(asked.device))
        wanted = asked.hardware or judged.hardware or "here"
        self._target = self._here if wanted == "here" else find(wanted)
        self._there = judged.device == self._target.name
        # A log's server has scheduling and an idle pace of its own.
        own = self._there and asked.log is None
        self._options = asked.options((judged.options if own else None) or usual_options(self._target.kind))
        self._slo = asked.slo or (judged.slo if own or not judged.slo_is_default else None)
        self._kv_memory = asked.kv_memory or (judged.kv_memory if self._there else None)

    def run(self, trace: WorkloadTrace, cache: CostCache, say: Callable[[str], None]) -> Simulated:
        """Serve ``trace``.

        Args:
            trace: as it was read.
            cache: measured times, kept.
            say: told, in a line, what takes a while.

        Raises:
            InputError: the trace cannot be served, or not with this configuration.
        """
        asked = self._asked
        again = self._judged.is_of(trace) and asked.rate_scale is None and asked.rate is None and asked.requests is None
        if asked.rate_scale is not None:
            trace = scale_rate(trace, asked.rate_scale)
        config = asked.document.config()
        engines, served, changes = self._engines(trace, again, cache, say)
        ratio = asked.output_length_ratio or _measured_ratio(asked.document)
        candidate = engines.engine(describe(config), config, ratio)
        others: list[SimulatedEngine | None] = [None, None]
        if asked.baseline:
            others = [
                None if config.digest == other.digest else engines.engine(called, other)
                for called, other in ((FULL, UNCOMPRESSED), (FLOAT8_NAME, FLOAT8))
            ]
        say("serving the trace")
        found = compare(
            served,
            candidate,
            *others,
            slo=self._slo,
            max_rate=asked.max_rate,
            oversized="refuse" if asked.refuse_oversized or again else "error",
        )
        doubts = () if engines.calibration is None else engines.calibration.notes
        notes = (*_of_reading(trace), *changes, *self._as_judged(found.slo_is_default), *doubts, *engines.notes)
        return Simulated(found, engines, self._target, served, self._options, ratio, notes)

    def _engines(
        self, trace: WorkloadTrace, again: bool, cache: CostCache, say: Callable[[str], None]
    ) -> tuple[SimulatedEngines, WorkloadTrace, tuple[str, ...]]:
        """Engines of the model, the requests that they serve and what was changed of them; ``again``: as a search did.

        For a device elsewhere the model's outline is enough where tables or a log say the costs: no weights are loaded.
        """
        asked, judged = self._asked, self._judged
        dtype = (judged.dtype or asked.dtype) if asked.dtype == "auto" else asked.dtype
        seed = ((judged.seed if again else None) or 0) if asked.seed is None else asked.seed

        def make(model: LoadedModel | ModelOutline) -> tuple[SimulatedEngines, WorkloadTrace, tuple[str, ...]]:
            served, changes = traffic(
                trace,
                context_tokens=model.facts.context_tokens,
                rate=judged.rate if again else asked.rate,
                requests=asked.requests,
                sample=judged.sample if again else None,
                closed_loop=asked.closed_loop,
                seed=seed,
            )
            engines = SimulatedEngines(
                model,
                served,
                here=self._here,
                target=self._target,
                options=self._options,
                kv_memory=self._kv_memory,
                memory_share=asked.memory_share,
                dtype=dtype,
                log=asked.log,
                thorough=not self._there,
                cache=cache,
                say=say,
            )
            return engines, served, changes

        if asked.log is not None or self._here.fingerprint != self._target.fingerprint:
            try:
                return make(outline(asked.model))
            except ModelError:
                say("loading the model")
        return make(load(asked.model, dtype=dtype, device=asked.device))

    def _as_judged(self, anew: bool) -> Iterator[str]:
        """What was taken from the configuration's document, and what not; ``anew``: the SLO is this device's own."""
        asked, judged, there = self._asked, self._judged, self._there
        if anew and judged.slo is not None:
            yield f"the search's SLO ({judged.slo}) is not used: it followed from an idle server on {judged.device}"
        taken = [
            words
            for words, is_taken in (
                ("the SLO", judged.slo is not None and asked.slo is None and not anew),
                ("the KV memory", there and judged.kv_memory is not None and asked.kv_memory is None),
                ("the scheduling", there and judged.options is not None),
            )
            if is_taken
        ]
        if taken:
            listed = " and ".join([", ".join(taken[:-1]), taken[-1]] if len(taken) > 1 else taken)
            are = "is that" if len(taken) == 1 else "are those"
            yield f"{listed} {are} of the search that recommended the configuration; options override this"


def _measured_ratio(document: ConfigurationDocument) -> float:
    """How much longer the configuration's outputs were measured to be; 1 where they were not."""
    found = (document.validated or document.measured or {}).get("output_length_ratio")
    mean = found.get("mean") if isinstance(found, dict) else None
    return float(mean) if isinstance(mean, int | float) and 0 < mean < float("inf") else 1.0


def _of_reading(trace: WorkloadTrace) -> Iterator[str]:
    """What the trace's reader has to say."""
    if trace.rejected.count:
        yield f"{trace.rejected.count:,} bad rows are left out, the first because of: {trace.rejected.reason}"
    yield from trace.notes
