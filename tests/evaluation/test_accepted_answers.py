"""Prompts with several accepted answers: the best one counts, and what divergence is measured over stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from transformers import PreTrainedTokenizerBase

from autokv.config import CompressionConfig
from autokv.errors import PromptError
from autokv.evaluation import Measurement, Prompt
from autokv.evaluation.evaluator import Evaluator, needs_of
from autokv.evaluation.prompts import prompt_file
from autokv.evaluation.tasks import grade
from autokv.models import load

CASES = Path(__file__).parents[3] / "shared" / "cases" / "cli"


class OneTokenPerCharacter:
    chat_template = None

    def __call__(self, text: str, **options: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}

    def encode(self, text: str, **options: object) -> list[int]:
        return [ord(character) for character in text]


def read(path: Path, samples: int = 1) -> list[Prompt]:
    tokenizer = cast("PreTrainedTokenizerBase", OneTokenPerCharacter())
    return prompt_file(path, tokenizer, samples=samples, continuation_tokens=4, max_context=10_000).prompts


def written(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("output", "expected"), [("It was the SAILS.", 1), ("a sail", 1), ("the masts", 0), ("the sails, a sail", 1)]
)
def test_one_accepted_answer_is_enough(output: str, expected: float) -> None:
    assert grade(output, Prompt("p", "prompt", (1,), answers=("the sails", "a sail"))) == expected


def test_a_task_needs_all_of_its_references() -> None:
    assert grade("one", Prompt("p", "task", (1,), references=("one", "two"))) == 0.5


def test_answers_are_read_and_change_nothing_else(tmp_path: Path) -> None:
    row = {"prompt": "Who?", "completion": "Me, I say", "answers": ["me", "I"]}
    (plain,) = read(written(tmp_path, {**row, "answers": None}))
    (prompt,) = read(written(tmp_path, row))
    assert prompt == replace(plain, answers=("me", "I"))
    assert prompt.continuation == tuple(map(ord, "Me, "))


def test_rows_of_longbench(tmp_path: Path) -> None:
    rows = [
        {"context": "A text.", "input": "Who?", "answers": ["a", "b"], "length": 3, "dataset": "qasper"},
        {"context": "Sum up.", "input": "", "answers": ["c"]},
    ]
    first, second = read(written(tmp_path, *rows), samples=2)
    assert "".join(map(chr, first.context)) == "A text.\n\nWho?"
    assert "".join(map(chr, second.context)) == "Sum up."
    assert (first.answers, first.continuation) == (("a", "b"), None)


def test_the_case_that_people_have() -> None:
    path = CASES / "longbench.jsonl"
    if not path.is_file():
        pytest.skip("the shared cases are not here")
    (prompt,) = read(path)
    assert prompt.answers == ("the sails",)
    assert "".join(map(chr, prompt.context)).endswith("\n\nWhat did he count?")


@pytest.mark.parametrize("answers", ["one", [], [1], [""], {"a": 1}])
def test_answers_that_are_none(answers: object, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"prompts\.jsonl:1: 'answers' is not a"):
        read(written(tmp_path, {"prompt": "Who?", "answers": answers}))


def test_the_score_is_the_best_over_the_answers(tiny_model_folder: Callable[..., Path]) -> None:
    model = load(str(tiny_model_folder("llama")), dtype="float32", device="cpu")
    config = CompressionConfig()
    asked = Prompt("p", "prompt", tuple(range(40, 90)))

    def judged(prompt: Prompt) -> dict[str, float]:
        (measured,) = Evaluator(model, [prompt], 12, needs_of([config]), timed=False, generate=True).evaluate([config])
        assert isinstance(measured, Measurement)
        return {name: statistics.mean for name, statistics in measured.metrics.items()}

    evaluator = Evaluator(model, [asked], 12, needs_of([config]), timed=False, generate=True)
    text = str(model.tokenizer.decode(evaluator._samples[0].answer, skip_special_tokens=True))
    plain = judged(asked)
    assert "task_score" not in plain
    assert judged(replace(asked, answers=("no such text", text[2:6]))) == {
        **plain,
        "task_score": 1.0,
        "negative_sample_rate": 0.0,
    }
    assert judged(replace(asked, answers=("no such text",))) == {**plain, "task_score": 0.0}
