"""Generated tasks, one a file, registered here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autokv.evaluation.prompt import Prompt
from autokv.evaluation.tasks.common_words import COMMON_WORDS
from autokv.evaluation.tasks.frequent_words import FREQUENT_WORDS
from autokv.evaluation.tasks.multi_key_needle import MULTI_KEY_NEEDLE
from autokv.evaluation.tasks.needle import NEEDLE
from autokv.evaluation.tasks.task import Task, score
from autokv.evaluation.tasks.variable_tracking import VARIABLE_TRACKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TASKS", "Task", "score", "task_prompts"]

TASKS: dict[str, Task] = {
    task.name: task for task in (NEEDLE, MULTI_KEY_NEEDLE, VARIABLE_TRACKING, COMMON_WORDS, FREQUENT_WORDS)
}


def task_prompts(
    tokenizer: PreTrainedTokenizerBase, context_tokens: Sequence[int], *, seed: int, first_index: int = 0
) -> list[Prompt]:
    """One prompt for each length, cycling through the tasks, with indices from ``first_index`` on.

    Raises:
        PromptError: a task does not fit its length.
    """
    tasks = tuple(TASKS.values())
    return [
        tasks[position % len(tasks)].generate(tokenizer, length, seed, first_index + position)
        for position, length in enumerate(context_tokens)
    ]
