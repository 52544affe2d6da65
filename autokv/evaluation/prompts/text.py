"""Samples cut from one text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autokv.errors import PromptError
from autokv.evaluation.encoding import encode
from autokv.evaluation.prompt import Prompt
from autokv.files import line_of, read_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TEXT_BYTES = 32 << 20
"""A larger text is refused unread: it is tokenized whole."""


def text_prompts(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context_tokens: Sequence[int],
    continuation_tokens: int,
    first_sample: int = 0,
) -> list[Prompt]:
    """One sample for each length of ``context_tokens``, laid end to end in the text.

    The text is tokenized once, without special tokens. With all lengths C and N continuation tokens, sample i is
    tokens i * (C + N) to (i + 1) * (C + N): the first C are the context, the last N the continuation. With unequal
    lengths, sample i follows sample i - 1, and the lengths repeat: sample i has the length
    ``context_tokens[i % len(context_tokens)]``. The samples ``first_sample`` and on are returned.

    Raises:
        PromptError: the file is missing, empty, binary, too large, or too short, with the tokens found and needed.
    """
    tokens = encode(tokenizer, read_text(Path(path)))
    plan = [context_tokens[index % len(context_tokens)] for index in range(first_sample + len(context_tokens))]
    needed = sum(plan) + len(plan) * continuation_tokens
    if len(tokens) < needed:
        raise PromptError(
            f"has {len(tokens)} tokens, but {len(plan)} samples of {_span(context_tokens)} context and "
            f"{continuation_tokens} continuation tokens need {needed}",
            field=str(path),
            remedy="use a longer text, fewer samples or a shorter context",
        )
    prompts = []
    start = 0
    for index, length in enumerate(plan):
        middle, end = start + length, start + length + continuation_tokens
        if index >= first_sample:
            prompts.append(Prompt(f"text-{index}", "text", tuple(tokens[start:middle]), tuple(tokens[middle:end])))
        start = end
    return prompts


def read_text(path: Path) -> str:
    """A whole text file, its lines ended by line feeds.

    Raises:
        PromptError: it is missing, empty, binary, too large, or not UTF-8.
    """
    data = read_plain(path, limit=MAX_TEXT_BYTES, error=PromptError, what="text")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise PromptError(
            f"is not UTF-8 (byte {error.start})", field=f"{path}:{line_of(data, error.start)}", remedy="convert it"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _span(lengths: Sequence[int]) -> str:
    low, high = min(lengths), max(lengths)
    return str(low) if low == high else f"{low} to {high}"
