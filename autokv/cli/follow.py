"""A job of a server on this terminal: what happens to it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from autokv.cli.console import answer, front_table, print_table
from autokv.cli.progress import TuningProgress, told_line
from autokv.client import Tuning
from autokv.config import CompressionConfig
from autokv.evaluation.measurement import Measurement, Statistics
from autokv.tuning.trial import Decision, FrontPoint, TuningResult
from autokv.wire import Event, FrontView, JobView, Progress


def follow(tuning: Tuning, console: Console) -> JobView:
    """Show what happens to a job until it has ended, and its front if it has one."""
    job = tuning.job()
    wanted = int(job.request.get("trials", 0))
    with TuningProgress(console, wanted) as progress:
        if job.queue is not None and job.queue.position > 1:
            progress.say(f"job {job.id} is number {job.queue.position} in the queue")
        job = tuning.wait(lambda event: _show(event, progress))
    if job.state == "done":
        result = result_of(tuning.front())
        print_table(console, front_table(result))
        console.print("\n".join(answer(result)), markup=False, soft_wrap=True)
    console.print(f"{job.state}: {job.reason or 'no reason is told'}", markup=False)
    return job


def result_of(front: FrontView) -> TuningResult:
    """The front as the search had it, without the trials behind it."""
    points = [
        FrontPoint(
            trial=point.trial,
            source=point.source,
            calibration=_measurement(point.config, point.calibration),
            validation=None if point.validation is None else _measurement(point.config, point.validation),
            feasible=point.feasible,
        )
        for point in front.points
    ]
    return TuningResult(
        objectives=front.objectives,
        trials=(),
        front=points,
        recommended=front.recommended,
        named=front.named,
        reason=front.reason,
        hypervolume=front.hypervolume,
        decision=None if front.decision is None else Decision.from_dict(front.decision.model_dump()),
    )


def _measurement(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Measurement:
    return Measurement(
        CompressionConfig.parse(config), {name: Statistics(**one) for name, one in metrics.items()}, samples=()
    )


def _show(event: Event, progress: TuningProgress) -> None:
    data = event.data
    if event.kind == "message":
        progress.say(str(data.get("text", "")))
    elif event.kind == "trial":
        progress.last(told_line(data))
    elif event.kind == "progress":
        told = Progress.model_validate(data)
        if told.phase == "searching":
            progress.batch(told)
    elif event.kind == "started":
        progress.say(f"attempt {data.get('attempt')} runs")
    elif event.kind in {"released", "crashed", "lost"}:
        progress.say(f"attempt {data.get('attempt')} {event.kind}: {data.get('reason')}")
