"""Sizing tasks to a model, with a rule in the place of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from transformers import PreTrainedTokenizerBase

from autokv.errors import PromptError
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.tasks import Task
from autokv.evaluation.tasks.sizing import SizedTasks, size_tasks

NO_TOKENIZER = cast("PreTrainedTokenizerBase", None)


@dataclass
class Counting:
    """A task whose prompt says its length and its number, and nothing else."""

    name: str
    least: int = 1
    asked: list[tuple[int, int]] = field(default_factory=list)

    def generate(self, tokenizer: object, context_tokens: int, seed: int, index: int) -> Prompt:
        if context_tokens < self.least:
            raise PromptError("too short")
        self.asked.append((context_tokens, index))
        return Prompt(f"{self.name}-{index}", self.name, (seed, index) + (0,) * (context_tokens - 2), references=("x",))


def size(*tasks: Counting, longest: int = 1024, seed: int = 5, solves: Callable[[Prompt], bool]) -> SizedTasks:
    return size_tasks(cast("Sequence[Task]", tasks), NO_TOKENIZER, longest, seed, solves)


def length_and_index(prompt: Prompt) -> tuple[int, int]:
    return len(prompt.context), prompt.context[1]


def test_a_task_stays_at_the_longest_context_at_which_two_of_three_are_right() -> None:
    task = Counting("short")
    right = {(1024, 0), (512, 1), (512, 2), (256, 0), (256, 1)}
    sized = size(task, solves=lambda prompt: length_and_index(prompt) in right)
    assert [length_and_index(prompt) for prompt in sized.prompts] == [(512, 1), (512, 2)]
    # Nothing is tried that cannot change the choice.
    assert task.asked == [(1024, 0), (1024, 1), (1024, 2), (512, 0), (512, 1), (512, 2)]
    assert sized.left_out == ()


def test_two_right_ones_are_enough_and_two_wrong_ones_too_many() -> None:
    good, bad = Counting("good"), Counting("bad")
    sized = size(good, bad, longest=600, solves=lambda prompt: prompt.kind == "good")
    assert good.asked == [(600, 0), (600, 1)]
    assert bad.asked == [(600, 0), (600, 1), (300, 0), (300, 1)]
    assert sized.contexts == {"good": [600, 600]}


def test_what_is_failed_and_what_does_not_fit_is_left_out_and_named() -> None:
    sized = size(
        Counting("easy"), Counting("hard"), Counting("long", least=2000), solves=lambda prompt: prompt.kind == "easy"
    )
    assert sized.left_out == ("hard", "long")
    assert sized.facts["left_out"] == ["hard", "long"]
    assert "easy 2 of 1024 tokens" in sized.note
    assert sized.note.endswith("hard, long")
    assert "\n" not in sized.note


def test_nothing_that_is_solved_is_said_too() -> None:
    sized = size(Counting("hard"), solves=lambda prompt: False)
    assert sized.prompts == ()
    assert sized.note.startswith("no generated task")


def test_a_short_run_has_its_own_length() -> None:
    task = Counting("any")
    size(task, longest=100, solves=lambda prompt: False)
    assert task.asked == [(100, 0), (100, 1)]


def test_the_seed_decides_the_prompts() -> None:
    def choose(seed: int) -> tuple[Prompt, ...]:
        return size(Counting("any"), longest=300, seed=seed, solves=lambda prompt: True).prompts

    assert choose(1) == choose(1) != choose(2)
