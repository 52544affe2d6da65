"""Generated tasks sized to what a model can do: what the full cache fails says nothing about a compressed one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autokv.errors import PromptError
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS, TRIES = 2, 3
"""How many prompts of a task are kept, and how many are tried at one length."""
SHORTEST = 256
"""Context tokens: what is shorter hardly gets compressed, and says little."""

Solves = Callable[[Prompt], bool]
"""Whether the full cache gets a prompt right."""


@dataclass(frozen=True)
class SizedTasks:
    """What the full cache solves of the tasks."""

    prompts: tuple[Prompt, ...]
    """:data:`PROMPTS` of each task that is solved, all of them of one length."""
    left_out: tuple[str, ...]
    """Names of the tasks that are failed at every length."""

    @property
    def contexts(self) -> dict[str, list[int]]:
        """Context tokens of the prompts of each task that is solved."""
        found: dict[str, list[int]] = {}
        for prompt in self.prompts:
            found.setdefault(prompt.kind, []).append(len(prompt.context))
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {"contexts": self.contexts, "left_out": list(self.left_out), "note": self.note}

    @property
    def note(self) -> str:
        """One line for a person: what is judged, and what is left out."""
        judged = [f"{name} {len(tokens)} of {max(tokens)} tokens" for name, tokens in self.contexts.items()]
        lines = [f"generated tasks: {', '.join(judged)}" if judged else "no generated task counts"]
        if self.left_out:
            lines.append(f"left out, since the full cache does not solve it: {', '.join(self.left_out)}")
        return "; ".join(lines)


def size_tasks(
    tasks: Iterable[Task], tokenizer: PreTrainedTokenizerBase, longest: int, seed: int, solves: Solves
) -> SizedTasks:
    """Choose prompts of each task that the full cache solves.

    A task is tried at ``longest`` tokens, then at half of that and so on down to :data:`SHORTEST`; a shorter context
    also takes a task's easier variant. It stays at the first length at which :data:`PROMPTS` of :data:`TRIES` prompts
    are right, with those prompts. What is chosen depends on the arguments alone.

    Args:
        tasks: in the order in which they are tried.
        longest: tokens of the longest context.
        solves: asked once about each prompt that is tried.
    """
    prompts: list[Prompt] = []
    left_out: list[str] = []
    for task in tasks:
        found = next(
            (right for length in _lengths(longest) if (right := _right(task, tokenizer, length, seed, solves))), []
        )
        prompts += found
        if not found:
            left_out.append(task.name)
    return SizedTasks(tuple(prompts), tuple(left_out))


def _lengths(longest: int) -> Iterator[int]:
    length = longest
    while length >= min(SHORTEST, longest):
        yield length
        length //= 2


def _right(task: Task, tokenizer: PreTrainedTokenizerBase, length: int, seed: int, solves: Solves) -> list[Prompt]:
    """The first prompts of this length that are right; none where too few are, or where the task does not fit."""
    right: list[Prompt] = []
    for index in range(TRIES):
        try:
            prompt = task.generate(tokenizer, length, seed, index)
        except PromptError:
            return []
        if solves(prompt):
            right.append(prompt)
        if len(right) == PROMPTS:
            return right
        if index + 1 - len(right) > TRIES - PROMPTS:
            return []
    return []
