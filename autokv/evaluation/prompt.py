"""A prompt, tokenized: the unit that is prefilled once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """Token ids of a context and of what follows it.

    ``continuation`` is ``None`` where the model's own greedy continuation is the reference. ``references`` are the
    strings that a generated answer to a task must contain.
    """

    id: str
    kind: str
    """``text``, ``prompt``, or the name of a generated task."""
    context: tuple[int, ...]
    continuation: tuple[int, ...] | None = None
    references: tuple[str, ...] = ()
