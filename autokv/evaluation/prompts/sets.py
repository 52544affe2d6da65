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
    calibration: Sequence[int],
    validation: Sequence[int] = (),
    continuation_tokens: int,
    context_limit: int,
    seed: int = 0,
) -> PromptSets:
    """Prompts from ``text``, else ``prompts``, else ``tasks``, else the text that ships with AutoKV.

    Args:
        calibration: context length of each calibration sample, in tokens; a prompt file keeps its own lengths and
            takes only their number.
        validation: the same for the validation samples. They follow the calibration samples in the text or file;
            generated tasks cycle through their kinds in each set, with numbers that go on from the first.
        continuation_tokens: tokens that follow a context.
        context_limit: most tokens of a context with its continuation: what the model can read.
        seed: of the generated tasks.

    Raises:
        PromptError: there are not enough prompts, one is too long, one is in both sets, or the source cannot be read.
    """
    lengths = [*calibration, *validation]
    if not calibration or min(lengths) < 1:
        raise PromptError("no samples, or samples without tokens", field="context_tokens", remedy="ask for at least 1")
    duplicates = 0
    if text is None and prompts is not None:
        source = str(prompts)
        found, duplicates = prompt_file(
            prompts,
            tokenizer,
            samples=len(lengths),
            continuation_tokens=continuation_tokens,
            max_context=context_limit - continuation_tokens,
        )
    else:
        _check_lengths(lengths, continuation_tokens, context_limit)
        if text is None and tasks:
            source = "generated tasks"
            found = task_prompts(tokenizer, calibration, seed=seed)
            found += task_prompts(tokenizer, validation, seed=seed, first_index=len(calibration))
        else:
            source = BUILT_IN if text is None else str(text)
            found = _from_text(text, tokenizer, lengths, continuation_tokens)
    split = len(calibration)
    sets = PromptSets(tuple(found[:split]), tuple(found[split:]), source, duplicates)
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


def _check_lengths(lengths: Sequence[int], continuation_tokens: int, context_limit: int) -> None:
    if max(lengths) + continuation_tokens > context_limit:
        raise PromptError(
            f"{max(lengths)} context and {continuation_tokens} continuation tokens exceed the limit of {context_limit}",
            field="context_tokens",
            remedy=f"use at most {context_limit - continuation_tokens}",
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
