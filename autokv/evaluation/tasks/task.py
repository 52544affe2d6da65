"""What a generated task is, how one is sized to a model, and how an answer is scored.

The tasks follow RULER (Hsieh et al., 2024): the answer is in the context, and generated from a seed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from autokv.errors import PromptError
from autokv.evaluation.encoding import encode, encode_chat
from autokv.evaluation.prompt import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROOMY = 0.6
"""Share of the context that the smallest haystack of a harder variant may fill."""


@dataclass(frozen=True)
class Draft:
    """A task in words, before it is tokenized."""

    request: str
    """Haystack, then the question."""
    answer_prefix: str
    """How the answer opens; the model goes on from here."""
    references: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """A way to draft a task: more ``size`` is more haystack, from ``minimum`` on."""

    draft: Callable[[Random, int], Draft]
    """Takes a generator in the same state for every size."""
    minimum: int


@dataclass(frozen=True)
class Task:
    """A generated task; of its variants, hardest first, the first that leaves room for a haystack is taken."""

    name: str
    variants: tuple[Variant, ...]

    def generate(self, tokenizer: PreTrainedTokenizerBase, context_tokens: int, seed: int, index: int) -> Prompt:
        """The ``index``-th prompt of ``seed``: as long as the haystack allows, at most ``context_tokens`` tokens.

        A tokenizer with a chat template gets it. The prompt depends on the task's name, ``seed`` and ``index``, not
        on other tasks.

        Raises:
            PromptError: even the smallest haystack is longer than ``context_tokens``.
        """

        def tokens(variant: Variant, size: int) -> list[int]:
            return _encode(tokenizer, self._draft(variant, size, seed, index))

        smallest = [len(tokens(variant, variant.minimum)) for variant in self.variants]
        if min(smallest) > context_tokens:
            raise PromptError(
                f"needs at least {min(smallest)} tokens of context, more than {context_tokens}",
                field=f"task {self.name}",
                remedy="use a longer context",
            )
        roomy = (
            variant for variant, least in zip(self.variants, smallest, strict=True) if least <= ROOMY * context_tokens
        )
        variant = next(roomy, self.variants[smallest.index(min(smallest))])
        size = _largest(variant.minimum, lambda size: len(tokens(variant, size)), context_tokens)
        references = self._draft(variant, size, seed, index).references
        return Prompt(f"{self.name}-{index}", self.name, tuple(tokens(variant, size)), references=references)

    def _draft(self, variant: Variant, size: int, seed: int, index: int) -> Draft:
        return variant.draft(Random(f"{self.name}:{seed}:{index}"), size)


def score(output: str, references: Sequence[str]) -> float:
    """Mean fraction of ``references`` that ``output`` contains, ignoring case (RULER's string match).

    Raises:
        PromptError: there are no references.
    """
    if not references:
        raise PromptError("an answer without references cannot be scored", field="references", remedy="give some")
    answer = output.casefold()
    return sum(reference.casefold() in answer for reference in references) / len(references)


def grade(output: str, prompt: Prompt) -> float:
    """:func:`score` of an answer to ``prompt``; of several accepted answers, the best (as LongBench, Bai et al. 2024).

    Raises:
        PromptError: the prompt has neither references nor answers.
    """
    if prompt.answers:
        return max(score(output, (answer,)) for answer in prompt.answers)
    return score(output, prompt.references)


def _encode(tokenizer: PreTrainedTokenizerBase, draft: Draft) -> list[int]:
    if tokenizer.chat_template:
        return encode_chat(tokenizer, [{"role": "user", "content": draft.request}], draft.answer_prefix)
    return encode(tokenizer, f"{draft.request}\n{draft.answer_prefix}", special_tokens=True)


def _largest(minimum: int, length: Callable[[int], int], limit: int) -> int:
    """The size with ``length(size) <= limit < length(size + 1)``, given that the minimum's is within the limit."""
    beyond = 2 * minimum + 1
    while length(beyond) <= limit:
        beyond *= 2
    sizes = range(minimum + 1, beyond)
    return minimum + bisect_right(sizes, limit, key=length)
