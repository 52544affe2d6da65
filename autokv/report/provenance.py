"""What was measured where, when and with which versions, and what was simulated or predicted: first in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autokv.evaluation.measurement import Measurement
from autokv.report import view
from autokv.report.facts import leaves, name_of
from autokv.report.format import duration
from autokv.report.front_tables import REFERENCE
from autokv.tuning.trial import TuningResult

FACTS = {
    "model": "Model",
    "hardware": "Device",
    "workload": "Workload",
    "contexts": "Contexts and samples",
    "baselines": "Baselines",
    "serving": "Serving",
    "request": "Request",
    "versions": "Versions",
}
"""The blocks of a job's facts and their headings, in the page's order."""


def blocks(result: TuningResult, job: Mapping[str, Any]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Every fact of the job in blocks with headings; a block without any is left out."""
    run = {"job": job.get("id"), "finished": job.get("finished"), "stopped by": result.stopped_by}
    for heading, block in (("Run", run), *((name, job.get(key)) for key, name in FACTS.items())):
        facts = list(leaves(block))
        if facts:
            yield heading, facts


def sentences(result: TuningResult, job: Mapping[str, Any]) -> Iterable[str]:
    """What was measured, what was not, and with what; a sentence is left out where nothing is known of its matter."""
    device = _device(job.get("hardware") or {})
    when = f" on {job['finished']}" if job.get("finished") else ""
    took = f" in {duration(float(job['seconds']))}" if job.get("seconds") is not None else ""
    yield f"Measured on {device or 'a device that is not recorded'}: {', '.join(_measured(result)) or 'nothing'}."
    ran = sum(trial.state != "infeasible" for trial in result.trials)
    more = len(result.trials) - ran
    left_out = f"; {more} more candidates were infeasible and not run" if more else ""
    yield f"{ran} trial{'' if ran == 1 else 's'}{took}{f', finished{when}' if when else ''}{left_out}."
    yield from _prompts(result)
    tasks = (job.get("contexts") or {}).get("tasks")
    if tasks:
        yield f"Tasks: {tasks}."
    yield from _simulated(result, job)
    model = job.get("model") or {}
    if isinstance(model, Mapping) and model.get("name"):
        revision = f", revision {model['revision']}" if model.get("revision") else ""
        yield f"Model: {model['name']}{revision}."
    versions = job.get("versions") or {}
    named = [f"{name_of(name)} {version}" for name, version in versions.items()]
    if named:
        yield f"Versions: {', '.join(named)}."


def _device(hardware: object) -> str:
    if not isinstance(hardware, Mapping):
        return str(hardware)
    parts = [hardware.get("name") or hardware.get("device"), hardware.get("dtype")]
    return ", ".join(str(part) for part in parts if part)


def _measured(result: TuningResult) -> Iterable[str]:
    names = {name for found in view.measured(result.trials) for name in found.metrics}
    if names & set(view.QUALITY):
        yield "quality against the full cache's output"
    if view.BYTES in names:
        yield "bytes per token"
    if view.TIME in names:
        yield f"attention times, in turn with {REFERENCE}"


def _prompts(result: TuningResult) -> Iterable[str]:
    splits: dict[str, list[Measurement]] = {
        "Calibration": view.measured(result.trials),
        "Validation": [point.validation for point in result.front if point.validation is not None],
    }
    uses = {"Calibration": "steered the search", "Validation": "confirmed the front; the search has not seen them"}
    for name, found in splits.items():
        if found:
            samples = [sample for sample in found[0].samples if not sample.get("task")]
            count = len(samples)
            lengths = sorted({sample["context_tokens"] for sample in samples if "context_tokens" in sample})
            context = f" of {lengths[0]:,} to {lengths[-1]:,} context tokens" if lengths else ""
            yield f"{name}: {count} prompt{'' if count == 1 else 's'}{context} {uses[name]}."


def _simulated(result: TuningResult, job: Mapping[str, Any]) -> Iterable[str]:
    serving = job.get("serving") or {}
    if not serving.get("device"):
        return
    count = f"{serving['requests']:,} requests" if serving.get("requests") else "the trace"
    predicted = view.predicted(result, job)
    if predicted:
        yield f"Simulated: serving {count} on {serving['device']}; its costs are {predicted}."
    else:
        yield f"Simulated: serving {count} on {serving['device']}, from times that were measured on it."
