"""Judging on generated tasks, on top of what another executor validates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import Any

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.evaluator import needs_of
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.task_judge import TaskJudge
from autokv.evaluation.tasks import all_tasks
from autokv.evaluation.tasks.sizing import SHORTEST
from autokv.runs.executors import Results, TrialExecutor
from autokv.runs.listener import Listener, Stop
from autokv.runs.preparing import PreparedRun


def wants_tasks(prepared: PreparedRun) -> bool:
    """Whether generated tasks are to be a second validation set: unless the request says otherwise, or its prompts
    are tasks with answers of their own.
    """
    return prepared.request.tasks is None and not any(prompt.references for prompt in prepared.prompts.validation)


class TaskedExecutor:
    """Appends the samples of :class:`~autokv.evaluation.task_judge.TaskJudge` to those of each validation.

    They have the metrics of tasks only, so that the others are still means over the validation prompts. The model that
    prepared the job answers them, in this process, whoever the inner executor is.
    """

    def __init__(self, inner: TrialExecutor, prepared: PreparedRun, listener: Listener, stop: Stop) -> None:
        self._inner, self._prepared, self._listener, self._stop = inner, prepared, listener, stop
        self._judge: TaskJudge | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a job's workload is told of the tasks: ``tasks``, once something was validated."""
        return {} if self._judge is None else {"tasks": self._judge.sized.facts}

    def calibrate(self, configs: Sequence[CompressionConfig]) -> Results:
        """As the inner executor."""
        return self._inner.calibrate(configs)

    def validate(self, configs: Sequence[CompressionConfig]) -> Results:
        """As the inner executor, with the answers to tasks; the first call sizes the tasks."""
        results = self._inner.validate(configs)
        measured = [result for result in results if isinstance(result, Measurement)]
        answers = iter(self._tasks().judge([one.config for one in measured]) if measured else [])
        return [_joined(result, next(answers)) if isinstance(result, Measurement) else result for result in results]

    def close(self) -> None:
        """Let go of the prefills, and close the inner executor."""
        self._judge = None
        self._inner.close()

    def _tasks(self) -> TaskJudge:
        if self._judge is None:
            prepared = self._prepared
            self._listener.say("choosing generated tasks that the full cache solves")
            typical = median_low(len(prompt.context) for prompt in prepared.prompts.validation)
            self._judge = TaskJudge(
                prepared.model,
                all_tasks().values(),
                max(typical, SHORTEST),
                prepared.request.seed,
                needs_of(prepared.space.statistics_configs()),
                self._stop.check,
            )
            self._listener.say(self._judge.sized.note)
        return self._judge


def _joined(validation: Measurement, answers: list[dict[str, object]] | AutoKVError) -> Measurement | AutoKVError:
    if isinstance(answers, AutoKVError):
        return answers
    return Measurement.of_samples(validation.config, [*validation.samples, *answers])
