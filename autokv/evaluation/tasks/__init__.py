"""Generated tasks, one a file: AutoKV's own, registered here, and those of installed distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autokv.errors import PluginError
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.tasks.common_words import COMMON_WORDS
from autokv.evaluation.tasks.frequent_words import FREQUENT_WORDS
from autokv.evaluation.tasks.multi_key_needle import MULTI_KEY_NEEDLE
from autokv.evaluation.tasks.needle import NEEDLE
from autokv.evaluation.tasks.task import Task, grade, score
from autokv.evaluation.tasks.variable_tracking import VARIABLE_TRACKING
from autokv.plugins import plugins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["GROUP", "TASKS", "Task", "all_tasks", "grade", "score", "task_prompts"]

GROUP = "autokv.tasks"
"""Entry points of tasks that other distributions bring; each names a :class:`Task` of the same name."""

TASKS: dict[str, Task] = {
    task.name: task for task in (NEEDLE, MULTI_KEY_NEEDLE, VARIABLE_TRACKING, COMMON_WORDS, FREQUENT_WORDS)
}


def all_tasks() -> dict[str, Task]:
    """:data:`TASKS`, then those of installed distributions.

    Raises:
        PluginError: one cannot be loaded, is no task, or has another name than its entry point.
    """
    tasks = dict(TASKS)
    for name, task in plugins(GROUP).items():
        if not isinstance(task, Task) or task.name != name or name in TASKS:
            raise PluginError(
                "is not a Task of this name, or has the name of a task of AutoKV",
                field=f"{GROUP}: {name}",
                remedy="name the entry point as its task, and neither as a task of AutoKV",
            )
        tasks[name] = task
    return tasks


def task_prompts(
    tokenizer: PreTrainedTokenizerBase, context_tokens: Sequence[int], *, seed: int, first_index: int = 0
) -> list[Prompt]:
    """One prompt for each length, cycling through the tasks, with indices from ``first_index`` on.

    Raises:
        PluginError: see :func:`all_tasks`.
        PromptError: a task does not fit its length.
    """
    tasks = tuple(all_tasks().values())
    return [
        tasks[position % len(tasks)].generate(tokenizer, length, seed, first_index + position)
        for position, length in enumerate(context_tokens)
    ]
