"""Prompts from a JSONL file, one object a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import TemplateError

from autokv.errors import PromptError
from autokv.evaluation.encoding import encode, encode_chat
from autokv.evaluation.prompt import Prompt
from autokv.evaluation.prompts.records import PromptRecord, read_records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class FilePrompts(NamedTuple):
    """Distinct prompts of a file, and how many lines repeated an earlier one."""

    prompts: list[Prompt]
    duplicates: int


def prompt_file(
    path: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    samples: int,
    continuation_tokens: int,
    max_context: int,
) -> FilePrompts:
    """The first ``samples`` distinct prompts of a JSONL file; what follows them is not looked at.

    A line is an object with ``prompt`` (a string, tokenized with the tokenizer's special tokens) or ``messages`` (a
    conversation of ``role`` and ``content``, put into the tokenizer's chat template), or LongBench's ``context`` and
    ``input``. Optional are ``completion``, whose first ``continuation_tokens`` tokens are what divergence is measured
    over, and ``answers``, a list of texts of which a generated answer should contain one. Other keys are ignored.
    Prompts with the same token ids are one prompt.

    Raises:
        PromptError: naming the line that is malformed or longer than ``max_context`` tokens; or the file is missing,
            empty, binary, too large, or has too few distinct prompts.
    """
    found: dict[tuple[int, ...], Prompt] = {}
    duplicates = 0
    for record in read_records(path):
        prompt = _prompt(record, tokenizer, continuation_tokens)
        if len(prompt.context) > max_context:
            raise PromptError(
                f"the prompt has {len(prompt.context)} tokens, more than the limit of {max_context}",
                field=record.where,
                remedy="shorten it, or raise the context limit if the model allows",
            )
        if prompt.context in found:
            duplicates += 1
        found.setdefault(prompt.context, prompt)
        if len(found) == samples:
            break
    if len(found) < samples:
        raise PromptError(
            f"has {len(found)} distinct prompts ({duplicates} duplicates dropped), but {samples} are needed",
            field=str(path),
            remedy="add prompts or ask for fewer samples",
        )
    return FilePrompts(list(found.values()), duplicates)


def _prompt(record: PromptRecord, tokenizer: PreTrainedTokenizerBase, continuation_tokens: int) -> Prompt:
    where = record.where
    if isinstance(record.prompt, str):
        context = encode(tokenizer, record.prompt, special_tokens=True)
    else:
        context = _conversation(record.prompt, tokenizer, where)
    if not context:
        raise PromptError("the prompt has no tokens", field=where, remedy="remove the line")
    continuation = None
    if record.completion is not None:
        continuation = tuple(encode(tokenizer, record.completion)[:continuation_tokens])
        if not continuation:
            raise PromptError("the completion has no tokens", field=where, remedy="remove `completion`")
    return Prompt(f"prompt-{record.line}", "prompt", tuple(context), continuation, answers=record.answers)


def _conversation(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    if not tokenizer.chat_template:
        raise PromptError("the model has no chat template for 'messages'", field=where, remedy="use 'prompt'")
    try:
        return encode_chat(tokenizer, messages)
    except (TemplateError, TypeError, ValueError) as error:
        raise PromptError(f"the chat template refuses 'messages' ({error})", field=where, remedy="mend them") from None
