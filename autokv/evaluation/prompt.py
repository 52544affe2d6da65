"""A prompt, tokenized: the unit that is prefilled once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """Token ids of a context and of what follows it.

    ``continuation`` is ``None`` where the model's own greedy continuation is what divergence is measured over.
    ``references`` are the strings that a generated answer to a task must contain; ``answers`` are accepted answers, of
    which it must contain one.
    """

    id: str
    kind: str
    """``text``, ``prompt``, or the name of a generated task."""
    context: tuple[int, ...]
    continuation: tuple[int, ...] | None = None
    references: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def is_graded(self) -> bool:
        """Whether it is known what an answer should say."""
        return bool(self.references or self.answers)
