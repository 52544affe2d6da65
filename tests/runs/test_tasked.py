"""Generated tasks as a second validation set of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError
from autokv.evaluation.costs import MemoryCache
from autokv.evaluation.measurement import Measurement
from autokv.evaluation.prompt import Prompt
from autokv.runs.executors import Results
from autokv.runs.executors.tasked import TaskedExecutor, wants_tasks
from autokv.runs.listener import Stop
from autokv.runs.preparing import PreparedRun, prepare_run
from autokv.tuning.recommend import lost_tasks
from autokv.tuning.request import TuningRequest

STOP = Stop(threading.Event())
IDENTITY = CompressionConfig()
RUINOUS = CompressionConfig.parse(
    {"pipeline": {"eviction": {"method": "streaming_llm", "keep_ratio": 0.1, "sink_tokens": 0, "recent_tokens": 4}}}
)
BROKEN = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.5}}})


class Told(list[str]):
    """A listener that remembers."""

    def say(self, text: str) -> None:
        self.append(text)

    def trial(self, record: object) -> None: ...

    def batch(self, progress: object) -> None: ...


class TextOnly:
    """Stands for the executor that judges prompts; one configuration fails."""

    closed = False

    def calibrate(self, configs: Sequence[CompressionConfig]) -> Results:
        return [
            AutoKVError("broken")
            if config == BROKEN
            else Measurement.of_samples(
                config,
                [
                    {"id": f"text-{index}", "kind": "text", "context_tokens": 300, "kl_divergence": value}
                    for index, value in enumerate((0.01, 0.03))
                ],
            )
            for config in configs
        ]

    validate = calibrate

    def close(self) -> None:
        self.closed = True


class Fixed:
    """A task of random bytes; its answer is any text at all, or one that no model gives."""

    def __init__(self, name: str, reference: str) -> None:
        self.name, self._reference = name, reference

    def generate(self, tokenizer: object, context_tokens: int, seed: int, index: int) -> Prompt:
        context = tuple((index * 7 + place * place) % 256 for place in range(context_tokens))
        return Prompt(f"{self.name}-{index}", self.name, context, references=(self._reference,))


@pytest.fixture(scope="module")
def prepared(tiny_model_folder: Callable[..., Path]) -> PreparedRun:
    fields = {"samples": 2, "validation_samples": 2, "context_tokens": 64, "continuation_tokens": 8}
    request = TuningRequest(model=str(tiny_model_folder("llama")), device="cpu", **fields)
    return prepare_run(request, MemoryCache(), Told(), STOP)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    tasks = {"any": Fixed("any", ""), "none": Fixed("none", "no such answer")}
    monkeypatch.setattr("autokv.runs.executors.tasked.all_tasks", lambda: tasks)
    return Told()


def test_tasks_join_the_validation_and_leave_the_other_metrics_alone(prepared: PreparedRun, told: Told) -> None:
    inner = TextOnly()
    executor = TaskedExecutor(inner, prepared, told, STOP)
    assert executor.calibrate([IDENTITY])[0] == inner.calibrate([IDENTITY])[0]
    assert (told, executor.facts) == ([], {})  # nothing is sized before something is validated

    first, broken, last = executor.validate([IDENTITY, BROKEN, RUINOUS])
    assert isinstance(broken, AutoKVError)
    for result, config in ((first, IDENTITY), (last, RUINOUS)):
        assert isinstance(result, Measurement)
        plain = inner.validate([config])[0]
        assert isinstance(plain, Measurement)
        assert result.config == config
        assert result.samples[:2] == plain.samples
        assert result.metrics["kl_divergence"] == plain.metrics["kl_divergence"]
        assert [(sample["id"], sample["task"]) for sample in result.samples[2:]] == [("any-0", "any"), ("any-1", "any")]
        assert result.metrics["negative_sample_rate"].n == 2
    assert executor.facts["tasks"]["left_out"] == ["none"]
    assert told[-1] == executor.facts["tasks"]["note"]
    assert "none" in told[-1]

    before = list(told)
    executor.validate([RUINOUS])
    assert told == before  # sized once
    executor.close()
    assert inner.closed


def test_what_fails_altogether_sizes_no_tasks(prepared: PreparedRun, told: Told) -> None:
    assert len(TaskedExecutor(TextOnly(), prepared, told, STOP).validate([BROKEN])) == 1
    assert told == []


def test_tasks_that_are_lost_show(prepared: PreparedRun, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = TaskedExecutor(TextOnly(), prepared, told, STOP)
    executor.validate([IDENTITY])

    def losing(configs: Sequence[CompressionConfig]) -> list[list[dict[str, object]]]:
        facts = {"kind": "any", "task": "any", "context_tokens": 256}
        return [
            [
                {"id": "any-0", **facts, "task_score": 1.0, "negative_sample_rate": 0.0},
                {"id": "any-1", **facts, "task_score": 0.0, "negative_sample_rate": float(config != IDENTITY)},
            ]
            for config in configs
        ]

    monkeypatch.setattr(executor._judge, "judge", losing)
    kept, lost = executor.validate([IDENTITY, RUINOUS])
    assert isinstance(kept, Measurement)
    assert isinstance(lost, Measurement)
    assert kept.value("negative_sample_rate") == 0
    assert lost.value("negative_sample_rate") == 0.5
    assert (lost_tasks(kept), lost_tasks(lost)) == ((), ("any-1",))


@pytest.mark.parametrize(("tasks", "wanted"), [(None, True), (True, False), (False, False)])
def test_the_request_decides(prepared: PreparedRun, tasks: bool | None, wanted: bool) -> None:
    asked = replace(prepared, request=prepared.request.model_copy(update={"tasks": tasks}))
    assert wants_tasks(asked) == wanted


def test_prompts_with_answers_of_their_own_take_the_place_of_tasks(prepared: PreparedRun) -> None:
    answered = tuple(replace(prompt, references=("x",)) for prompt in prepared.prompts.validation)
    assert not wants_tasks(replace(prepared, prompts=replace(prepared.prompts, validation=answered)))


def test_a_request_of_an_older_version_goes_on_without_tasks() -> None:
    assert TuningRequest.model_validate({"model": "m", "tasks": False}).tasks is False
    assert TuningRequest(model="m").tasks is None
