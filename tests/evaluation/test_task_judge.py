"""Tasks that a tiny model solves by construction: its own answers are the references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM

from autokv.config import CompressionConfig
from autokv.errors import AutoKVError, Interrupted
from autokv.evaluation import Measurement
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.task_judge import TaskJudge
from autokv.evaluation.tasks import Task
from autokv.models import LoadedModel, load

if TYPE_CHECKING:
    from tests.conftest import GenerativeModel

IDENTITY = CompressionConfig()
FORM = {"bits": 8, "axis": "token", "group_size": 16}
CLOSE = CompressionConfig.parse({"pipeline": {"quantization": {"method": "integer", "key": FORM, "value": FORM}}})
RUINOUS = CompressionConfig.parse(
    {"pipeline": {"eviction": {"method": "streaming_llm", "keep_ratio": 0.1, "sink_tokens": 0, "recent_tokens": 4}}}
)
TOO_SMALL_A_BUDGET = CompressionConfig.parse({"pipeline": {"eviction": {"method": "knorm", "keep_ratio": 0.1}}})
"""The tokens that always stay are more than that."""
CONFIGS = [IDENTITY, CLOSE, RUINOUS, TOO_SMALL_A_BUDGET]


class Echo:
    """A task whose reference is what transformers' own ``generate`` answers; ``right`` says which prompts have it."""

    def __init__(self, folder: Path, model: LoadedModel, name: str, *, right: bool = True) -> None:
        plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._plain = cast("GenerativeModel", plain)
        self._tokenizer, self._right, self.name = model.tokenizer, right, name

    def generate(self, tokenizer: object, context_tokens: int, seed: int, index: int) -> Prompt:
        generator = torch.Generator().manual_seed(100 * seed + index)
        context = torch.randint(0, 256, (1, context_tokens), generator=generator)
        with torch.inference_mode():
            answer = self._plain.generate(context, max_new_tokens=10, do_sample=False)[0, context_tokens:].tolist()
        reference = str(self._tokenizer.decode(answer, skip_special_tokens=True)) if self._right else "not what it says"
        return Prompt(f"{self.name}-{index}", self.name, tuple(context[0].tolist()), references=(reference,))


@pytest.fixture(scope="module")
def model(tiny_model_folder: Callable[..., Path]) -> LoadedModel:
    return load(str(tiny_model_folder("llama")), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def judge(model: LoadedModel, tiny_model_folder: Callable[..., Path]) -> TaskJudge:
    folder = tiny_model_folder("llama")
    return judging(model, Echo(folder, model, "solved"), Echo(folder, model, "failed", right=False))


def judging(model: LoadedModel, *tasks: Echo) -> TaskJudge:
    return TaskJudge(model, cast("Sequence[Task]", tasks), 256, 1, needs_of(CONFIGS))


def judged(judge: TaskJudge, configs: list[CompressionConfig]) -> list[list[dict[str, Any]]]:
    """A configuration's rows; none of them may have failed."""
    found = [rows for rows in judge.judge(configs) if not isinstance(rows, AutoKVError)]
    assert len(found) == len(configs)
    return found


def test_what_the_full_cache_fails_is_left_out(judge: TaskJudge) -> None:
    assert judge.sized.left_out == ("failed",)
    assert judge.sized.contexts == {"solved": [256, 256]}


def test_no_compression_loses_nothing_and_a_ruinous_one_loses(judge: TaskJudge) -> None:
    exact, close, ruined, _ = judged(judge, CONFIGS)
    for rows in (exact, close):
        assert [(row["id"], row["task_score"], row["negative_sample_rate"]) for row in rows] == [
            ("solved-0", 1.0, 0.0),
            ("solved-1", 1.0, 0.0),
        ]
    assert [(row["task_score"], row["negative_sample_rate"]) for row in ruined] == [(0.0, 1.0)] * 2
    assert set(ruined[0]) == {"id", "kind", "task", "context_tokens", "task_score", "negative_sample_rate"}


def test_the_answers_are_those_that_the_evaluator_judges(judge: TaskJudge, model: LoadedModel) -> None:
    evaluator = Evaluator(model, judge.sized.prompts, 20, needs_of(CONFIGS), timed=False, generate=True)
    for measured, rows in zip(evaluator.evaluate(CONFIGS[:3]), judged(judge, CONFIGS[:3]), strict=True):
        assert isinstance(measured, Measurement)
        for sample, row in zip(measured.samples, rows, strict=True):
            assert row.pop("task") == sample["kind"]
            assert row == {name: sample[name] for name in row}


def test_a_configuration_that_does_not_fit_a_task_is_not_judged_by_it(judge: TaskJudge) -> None:
    assert judge.judge([TOO_SMALL_A_BUDGET, IDENTITY])[0] == []


def test_another_judge_chooses_the_same_prompts(
    judge: TaskJudge, model: LoadedModel, tiny_model_folder: Callable[..., Path]
) -> None:
    again = judging(model, Echo(tiny_model_folder("llama"), model, "solved"))
    assert again.sized.prompts == judge.sized.prompts


def test_it_can_be_stopped_between_prompts(
    judge: TaskJudge, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(judge, "_check", stop)
    with pytest.raises(Interrupted):
        judge.judge([IDENTITY])
