"""Judging on many devices: a Ray actor for each of them loads the model and keeps its own prefills.

Ray starts on this machine, or joins the cluster that ``RAY_ADDRESS`` names; there, every machine needs the model under
the same name. Nothing here is imported by a job that does not ask for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from autokv.compression.context import StatisticsNeeded
from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, RequestError
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.prompts import PromptSets
from autokv.models import load
from autokv.runs.executors import Results
from autokv.runs.executors.local import LocalExecutor
from autokv.runs.listener import Listener, Stop
from autokv.runs.preparing import PreparedRun
from autokv.tuning.request import TuningRequest

POLL_SECONDS = 0.5
"""Between two looks whether to stop."""


@dataclass(frozen=True)
class Task:
    """What an actor is to judge on."""

    request: TuningRequest
    """With the precision and the device that the actor loads the model with."""
    prompts: PromptSets
    needs: StatisticsNeeded
    batch: int

    @staticmethod
    def of(prepared: PreparedRun) -> Task:
        """An actor sees only the device that Ray gives it."""
        dtype = str(prepared.model.dtype).removeprefix("torch.")
        request = prepared.request.model_copy(update={"dtype": dtype, "device": prepared.model.device.type})
        needs = needs_of(prepared.space.statistics_configs())
        return Task(request, prepared.prompts, needs, prepared.plan.batch)


class Judge:
    """Runs in an actor. What goes wrong on purpose is returned, since Ray would wrap what is raised."""

    def __init__(self, task: Task) -> None:
        model = load(task.request.model, dtype=task.request.dtype, device=task.request.device)
        self._executor = LocalExecutor(model, task.prompts, task.request, task.needs, task.batch)

    def judge(self, phase: str, configs: Sequence[CompressionConfig]) -> Results | AutoKVError:
        """Judge on the prompts of ``phase``."""
        try:
            return self._executor.calibrate(configs) if phase == "calibration" else self._executor.validate(configs)
        except AutoKVError as error:
            return error

    def process(self) -> int:
        """The actor's process id."""
        return os.getpid()


class RayExecutor:
    """Splits every batch over its actors; the share of an actor that dies is run again once, by a new one.

    Args:
        prepared: the job.
        listener: told of actors that die.
        stop: may interrupt it.
        devices: how many actors, each with a GPU of its own where the job's device is one.

    Raises:
        RequestError: Ray is not installed.
    """

    def __init__(self, prepared: PreparedRun, listener: Listener, stop: Stop, devices: int) -> None:
        self._ray, self._listener, self._stop = _ray(), listener, stop
        gpus = 1 if prepared.model.device.type == "cuda" else 0
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _start(self._ray, devices, gpus)
        self._task = self._ray.put(Task.of(prepared))
        self._make = self._ray.remote(num_cpus=1, num_gpus=gpus)(Judge).remote
        self.actors = [self._make(self._task) for _ in range(devices)]
        """One for each device."""

    def calibrate(self, configs: Sequence[CompressionConfig]) -> Results:
        """See :class:`~autokv.runs.executors.TrialExecutor`."""
        return self._judge("calibration", configs)

    def validate(self, configs: Sequence[CompressionConfig]) -> Results:
        """See :class:`~autokv.runs.executors.TrialExecutor`."""
        return self._judge("validation", configs)

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        for actor in self.actors:
            self._ray.kill(actor)
        self.actors = []
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()

    def _judge(self, phase: str, configs: Sequence[CompressionConfig]) -> Results:
        count = len(self.actors)
        shares = {index: configs[index::count] for index in range(count) if configs[index::count]}
        running = {index: self._begin(index, phase, share) for index, share in shares.items()}
        results: list[Any] = [None] * len(configs)
        for index, share in shares.items():
            try:
                found = self._result(running[index])
            except self._ray.exceptions.RayActorError:
                self._listener.say(f"device {index} was lost; what it was judging is judged again")
                self.actors[index] = self._make(self._task)
                found = self._result(self._begin(index, phase, share))
            if isinstance(found, AutoKVError):
                raise found
            results[index::count] = found
        return results

    def _begin(self, index: int, phase: str, share: Sequence[CompressionConfig]) -> Any:  # noqa: ANN401 - Ray's
        return self.actors[index].judge.remote(phase, list(share))

    def _result(self, reference: Any) -> Any:  # noqa: ANN401 - Ray's reference, and what it stands for
        while not self._ray.wait([reference], timeout=POLL_SECONDS)[0]:
            self._stop.check()
        return self._ray.get(reference)


def _ray() -> Any:  # noqa: ANN401 - a module without types
    try:
        return import_module("ray")
    except ImportError:
        raise RequestError(
            "Ray is not installed", field="--executor ray", remedy="install it with `pip install 'autokv[ray]'`"
        ) from None


def _start(ray: Any, devices: int, gpus: int) -> None:  # noqa: ANN401 - a module without types
    """Start or join Ray, keeping this process's own answer to SIGTERM, which Ray would replace."""
    local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": devices, "num_gpus": devices * gpus}
    answer = signal.getsignal(signal.SIGTERM)
    # Nothing is reported to anybody unless the user has asked for it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(include_dashboard=False, log_to_driver=False, **local)
    finally:
        signal.signal(signal.SIGTERM, answer)
