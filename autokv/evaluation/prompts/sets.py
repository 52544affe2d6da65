"""Calibration prompts, which steer the search, and validation prompts, which confirm it: never the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autokv.data import builtin_text
from autokv.errors import PromptError
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.prompts.file import prompt_file
from autokv.evaluation.prompts.text import text_prompts
from autokv.evaluation.tasks import task_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BUILT_IN = "built-in text"


@dataclass(frozen=True)
class PromptSets:
    """Disjoint prompts, and where they come from in words for a report."""

    calibration: tuple[Prompt, ...]
    validation: tuple[Prompt, ...]
    source: str
    duplicates: int = 0
    """Lines of a prompt file that repeated an earlier prompt and were dropped."""


def load_prompts(
    tokenizer: PreTrainedTokenizerBase,
    *,
    text: str | Path | None = None,
    prompts: str | Path | None = None,
    tasks: bool = False,
    context_tokens: Sequence[int],
    continuation_tokens: int,
    calibration: int,
    validation: int = 0,
    max_context: int,
    seed: int = 0,
) -> PromptSets:
    """Prompts from ``text``, else ``prompts``, else ``tasks``, else the text that ships with AutoKV.

    Sample i of either set has ``context_tokens[i % len(context_tokens)]`` tokens of context, so both follow one plan
    of lengths; a prompt file keeps its own lengths. Validation samples follow the calibration samples in the text or
    file; generated tasks cycle through their kinds in each set, with numbers that go on from calibration to
    validation. ``max_context`` is the longest context allowed, in tokens; ``seed`` is for the tasks.

    Raises:
        PromptError: there are not enough prompts, one is too long, one is in both sets, or the source cannot be read.
    """
    if calibration < 1 or validation < 0:
        raise PromptError(f"{calibration} and {validation} samples make no sense", remedy="ask for at least 1")
    duplicates = 0
    if prompts is not None:
        source = str(prompts)
        found, duplicates = prompt_file(
            prompts,
            tokenizer,
            samples=calibration + validation,
            continuation_tokens=continuation_tokens,
            max_context=max_context,
        )
    else:
        _check_lengths(context_tokens, max_context)
        lengths = [
            context_tokens[index % len(context_tokens)] for size in (calibration, validation) for index in range(size)
        ]
        if text is None and tasks:
            source = "generated tasks"
            found = task_prompts(tokenizer, lengths[:calibration], seed=seed)
            found += task_prompts(tokenizer, lengths[calibration:], seed=seed, first_index=calibration)
        else:
            source = BUILT_IN if text is None else str(text)
            found = _from_text(text, tokenizer, lengths, continuation_tokens)
    sets = PromptSets(tuple(found[:calibration]), tuple(found[calibration:]), source, duplicates)
    _check_disjoint(sets)
    return sets


def _from_text(
    text: str | Path | None, tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int], continuation_tokens: int
) -> list[Prompt]:
    path = builtin_text() if text is None else text
    try:
        return text_prompts(path, tokenizer, context_tokens=lengths, continuation_tokens=continuation_tokens)
    except PromptError as error:
        if text is not None:
            raise
        raise PromptError(error.message, field=BUILT_IN, remedy="give your own text, or ask for less") from None


def _check_lengths(context_tokens: Sequence[int], max_context: int) -> None:
    if not context_tokens or min(context_tokens) < 1:
        raise PromptError("is not positive", field="context_tokens", remedy="give at least 1 token")
    if max(context_tokens) > max_context:
        raise PromptError(
            f"{max(context_tokens)} tokens exceed the limit of {max_context}",
            field="context_tokens",
            remedy=f"use at most {max_context}",
        )


def _check_disjoint(sets: PromptSets) -> None:
    seen = {prompt.context: prompt.id for prompt in sets.calibration}
    for prompt in sets.validation:
        if prompt.context in seen:
            raise PromptError(
                f"{seen[prompt.context]} for calibration and {prompt.id} for validation are the same",
                field=sets.source,
                remedy="use a source that does not repeat itself",
            )
