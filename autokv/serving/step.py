"""One iteration of an engine: what the scheduler decides and an executor carries out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Chunk(NamedTuple):
    """Consecutive tokens of one prompt."""

    request: int
    start: int
    """Tokens of the prompt that are held already: earlier chunks and a shared prefix."""
    tokens: int
    last: bool
    """The prompt ends here: the request's next token comes out of this iteration, and its cache is compressed."""


@dataclass(frozen=True, slots=True)
class Step:
    """One iteration, or ``repeats`` of them that differ by nothing but the tokens held."""

    decoding: Collection[int]
    """Requests that feed back their newest token and get the next; a view that changes with the scheduler."""
    held_tokens: int
    """Tokens that the decoding requests hold together, before each appends one."""
    chunks: tuple[Chunk, ...] = ()
    dropped: tuple[int, ...] = ()
    """Requests whose caches are to be dropped before the iteration: they will be prefilled again."""
    swapped_out: tuple[int, ...] = ()
    swapped_in: tuple[int, ...] = ()
    swapped_bytes: float = 0.0
    """Bytes that move between device and host memory."""
    repeats: int = 1
    """How often the iteration can run before a request ends or memory runs out; 1 where there are chunks."""


class Executor(Protocol):
    """What runs iterations: a cost model that predicts them, or a model that really does."""

    def run(self, step: Step, until: float) -> tuple[int, float]:
        """Run ``step`` once or more.

        Args:
            step: what to run, at most ``step.repeats`` times.
            until: seconds from now after which another repeat must not begin: a request may be admitted then.

        Returns:
            How often it ran, at least once, and the seconds of all together.
        """

    def finished(self, requests: Collection[int]) -> None:
        """These requests have all their tokens; what they held can be dropped."""
