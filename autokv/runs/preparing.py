"""Everything that a run needs besides its trials; what is wrong with a request is found here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autokv import settings
from autokv.errors import RequestError
from autokv.evaluation.baselines import has_float8
from autokv.evaluation.costs import CostCache
from autokv.evaluation.costs.meter import weights_bytes
from autokv.evaluation.metrics import CONFIRMED_METRICS, SERVING_METRICS
from autokv.evaluation.prompts import PromptSets, load_prompts
from autokv.evaluation.prompts.records import prompt_file_facts
from autokv.evaluation.prompts.text import read_text
from autokv.hardware import HardwareProfile, find, probe
from autokv.models import LoadedModel, load
from autokv.models.loading import LazyTokenizer
from autokv.models.placement import choose_device
from autokv.runs.evaluation_plan import EvaluationPlan, plan_evaluation
from autokv.runs.listener import Listener, Stop
from autokv.runs.serving_judge import ServingJudge
from autokv.runs.versions import versions
from autokv.search_spaces import SearchSpace, load_space
from autokv.storage import Job
from autokv.tuning.request import DEFAULT_OBJECTIVES, TuningRequest
from autokv.tuning.sampling import check_sampler
from autokv.workload import WorkloadTrace, read_trace
from autokv.workload.scenarios import MEMORY_SHARE, Scenario, classify, scenario_kind

_SERVED = SERVING_METRICS | CONFIRMED_METRICS


@dataclass(frozen=True)
class PreparedRun:
    """A request whose model is loaded and whose prompts are chosen."""

    request: TuningRequest
    """With the space and the objectives that its workload decided."""
    space: SearchSpace
    """Fitted to the model."""
    model: LoadedModel
    hardware: HardwareProfile
    trace: WorkloadTrace | None
    scenario: Scenario | None
    serving: ServingJudge | None
    plan: EvaluationPlan
    prompts: PromptSets

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """What a job stores of it: model, hardware and workload as JSON documents, and versions."""
        return {
            "model": {**self.model.facts.to_dict(), "source": self.request.model},
            "hardware": {**self.hardware.to_dict(), "dtype": str(self.model.dtype).removeprefix("torch.")},
            "workload": self._workload,
            "versions": versions(),
        }

    @property
    def _workload(self) -> dict[str, Any]:
        trace, sets = self.trace, self.prompts
        traffic = {} if trace is None else {"trace": trace.name, "format": trace.format, **asdict(trace.summary())}
        return {
            **traffic,
            **({} if self.scenario is None else {"scenario": asdict(self.scenario)}),
            **({} if self.serving is None else {"serving": self.serving.facts}),
            "prompts": sets.source,
            "continuation_tokens": self.request.continuation_tokens,
            "contexts": {
                "calibration": [len(prompt.context) for prompt in sets.calibration],
                "validation": [len(prompt.context) for prompt in sets.validation],
                "notes": list(self.plan.notes),
                "batch": self.plan.batch,
            },
        }


def prepare_run(
    request: TuningRequest,
    costs: CostCache,
    listener: Listener,
    stop: Stop,
    *,
    plan: EvaluationPlan | None = None,
    space: SearchSpace | None = None,
    target: HardwareProfile | None = None,
) -> PreparedRun:
    """Read, load and measure what ``request`` names.

    Args:
        request: with paths that are here.
        costs: measured times, kept.
        listener: told what takes a while, and what was decided.
        stop: may interrupt it.
        plan: of an earlier process that ran the same job.
        space: instead of the one that the request names.
        target: the device to serve on, instead of the one that the request names.

    Raises:
        InputError: something asked for cannot be used.
        Interrupted: ``stop`` was asked for.
    """
    if space is None:
        load_space(request.space)
    _check_names(request)
    trace = _trace(request)
    for note in () if trace is None else _remarks(trace):
        listener.say(f"{request.workload}: {note}")
    listener.say(f"loading {request.model}")
    model = load(request.model, dtype=request.dtype, device=request.device)
    stop.check()
    hardware = probe(str(model.device))
    if target is None:
        target = hardware if request.hardware == "here" else find(request.hardware)
    scenario = None if trace is None else _scenario(request, model, trace, target)
    served = trace is not None and (trace.timed or request.rate is not None)
    if scenario is not None:
        listener.say(scenario.why[0])
        request = chosen(request, scenario, served=served)
        listener.say(f"space {request.space}; objectives {', '.join(request.objectives)}")
    plan = plan or plan_evaluation(request, model, trace, settings.current().prefill_seconds)
    for note in plan.notes:
        listener.say(note)
    limit = model.facts.context_tokens
    prompts = load_prompts(
        model.tokenizer,
        text=request.text,
        prompts=request.prompts,
        tasks=bool(request.tasks),
        calibration=plan.calibration,
        validation=plan.validation,
        continuation_tokens=request.continuation_tokens,
        context_limit=min(limit, (request.max_context_tokens or limit) + request.continuation_tokens),
        seed=request.seed,
    )
    fitted = (load_space(request.space) if space is None else space).fitted(model.facts.head_dim)
    check_sampler(request.sampler, fitted)
    serving = None
    named = _SERVED.intersection((*request.metrics, request.utility))
    about = bool(request.slo or request.kv_memory or request.price_per_hour or named)
    if trace is not None and not served and not about:
        listener.say(
            f"{trace.name}: has no arrivals, so it is not served; --rate says how many requests come per second"
        )
    if trace is not None and (served or about):
        listener.say("measuring what serving costs on this device")
        serving = ServingJudge(model, trace, request, hardware, target, costs, stop.check)
        for note in serving.notes:
            listener.say(note)
    return PreparedRun(request, fitted, model, hardware, trace, scenario, serving, plan, prompts)


def chosen(request: TuningRequest, scenario: Scenario, *, served: bool) -> TuningRequest:
    """``request`` with the scenario's space and objectives, unless it names its own.

    Args:
        request: what was asked.
        scenario: of the workload.
        served: whether the trace can be simulated; without arrivals no serving metric exists.
    """
    objectives = scenario.objectives
    if not served:
        objectives = tuple(name for name in objectives if name not in SERVING_METRICS)
        if len(objectives) < 2:
            objectives = DEFAULT_OBJECTIVES
    follows = {"space": scenario.space, "objectives": objectives}
    return request.model_copy(
        update={name: value for name, value in follows.items() if name not in request.model_fields_set}
    )


def _check_names(request: TuningRequest) -> None:
    """Look up what ``request`` names before a model is loaded: a mistake is told in a second, not in minutes."""
    device, fp8 = choose_device(request.device), "attention_fp8_us"
    if fp8 in request.metrics and not has_float8(device):
        raise RequestError(f"is not measured on {device}, which has no fp8", field=fp8, remedy="use attention_us")
    if request.hardware != "here":
        find(request.hardware)
    if request.scenario is not None:
        scenario_kind(request.scenario)
    if request.prompts is not None:
        prompt_file_facts(request.prompts)
    if request.text is not None:
        read_text(Path(request.text))


def _trace(request: TuningRequest) -> WorkloadTrace | None:
    """The workload, read as the request says; the model counts the tokens of texts."""
    if request.workload is None:
        return None
    share = {} if request.max_bad_rows is None else {"max_rejected_share": request.max_bad_rows}
    return read_trace(
        request.workload,
        columns={str(field): name for field, name in request.columns.items()},
        time_unit=request.time_unit,
        tokenizer=LazyTokenizer(request.tokenizer or request.model),
        hash_block_size=request.hash_block_size,
        **share,
    )


def plan_of(job: Job) -> EvaluationPlan | None:
    """The plan that an earlier process made for a job; ``None`` where none came so far."""
    contexts = (job.workload or {}).get("contexts")
    if contexts is None:
        return None
    lengths = tuple(contexts["calibration"]), tuple(contexts["validation"])
    # A job of a version that timed single sequences goes on as it began.
    return EvaluationPlan(*lengths, tuple(contexts["notes"]), contexts.get("batch", 1))


def _remarks(trace: WorkloadTrace) -> tuple[str, ...]:
    """What its reader left out, changed or found strange."""
    bad = trace.rejected
    left_out = [f"{bad.count} bad rows left out, the first in line {bad.lines[0]} ({bad.reason})"] if bad.count else []
    return (*left_out, *trace.notes)


def _scenario(request: TuningRequest, model: LoadedModel, trace: WorkloadTrace, target: HardwareProfile) -> Scenario:
    facts, weights = model.facts, weights_bytes(model.model)
    memory = target.memory_bytes if request.kv_memory is None else (weights + request.kv_memory) / MEMORY_SHARE
    found = classify(
        trace,
        context_tokens=facts.context_tokens,
        kv_bytes_per_token=facts.kv_bytes_per_token,
        weights_bytes=weights,
        memory_bytes=memory,
    )
    return found if request.scenario is None else found.overruled(request.scenario)
