"""Prompts from a JSONL file, one object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from jinja2 import TemplateError

from autokv.errors import PromptError
from autokv.evaluation.encoding import encode, encode_chat
from autokv.evaluation.prompt import Prompt
from autokv.workload.files import read_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_PROMPT_FILE_BYTES = 256 << 20
"""A larger file is refused unread."""


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
    conversation of ``role`` and ``content``, put into the tokenizer's chat template), and optionally ``completion``,
    of which the first ``continuation_tokens`` tokens are the reference. Other keys are ignored. Prompts with the same
    token ids are one prompt.

    Raises:
        PromptError: naming the line that is malformed or longer than ``max_context`` tokens; or the file is missing,
            empty, binary, too large, or has too few distinct prompts.
    """
    data = read_bytes(Path(path), limit=MAX_PROMPT_FILE_BYTES, error=PromptError, what="prompt")
    found: dict[tuple[int, ...], Prompt] = {}
    duplicates = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if len(found) == samples:
            break
        if not line.strip():
            continue
        where = f"{path}:{number}"
        prompt = _prompt(_record(line, where), tokenizer, number, continuation_tokens, where)
        if len(prompt.context) > max_context:
            raise PromptError(
                f"the prompt has {len(prompt.context)} tokens, more than the limit of {max_context}",
                field=where,
                remedy="shorten it, or raise the context limit if the model allows",
            )
        if prompt.context in found:
            duplicates += 1
        found.setdefault(prompt.context, prompt)
    if len(found) < samples:
        raise PromptError(
            f"has {len(found)} distinct prompts ({duplicates} duplicates dropped), but {samples} are needed",
            field=str(path),
            remedy="add prompts or ask for fewer samples",
        )
    return FilePrompts(list(found.values()), duplicates)


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"is not JSON ({error})", field=where, remedy="write one object a line") from None
    if not isinstance(record, dict):
        raise PromptError("is not a JSON object", field=where, remedy='write {"prompt": "..."}')
    return record


def _prompt(
    record: dict[str, Any], tokenizer: PreTrainedTokenizerBase, number: int, continuation_tokens: int, where: str
) -> Prompt:
    if "messages" in record and "prompt" not in record:
        context = _conversation(record["messages"], tokenizer, where)
    else:
        context = encode(tokenizer, _text(record, "prompt", where), special_tokens=True)
    if not context:
        raise PromptError("the prompt has no tokens", field=where, remedy="remove the line")
    continuation = None
    if record.get("completion") is not None:
        continuation = tuple(encode(tokenizer, _text(record, "completion", where))[:continuation_tokens])
        if not continuation:
            raise PromptError("the completion has no tokens", field=where, remedy="remove `completion`")
    return Prompt(f"prompt-{number}", "prompt", tuple(context), continuation)


def _text(record: dict[str, Any], key: str, where: str) -> str:
    if key not in record:
        keys = ", ".join(map(repr, record)) or "no keys"
        raise PromptError(f"has neither 'prompt' nor 'messages', only {keys[:80]}", field=where, remedy="add one")
    value = record[key]
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise PromptError(f"{key!r} is not a text", field=where, remedy="give a string that is not blank")
    return value


def _is_unicode(text: str) -> bool:
    """Whether there is no lone surrogate, which JSON can spell and tokenizers cannot take."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _conversation(messages: object, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    if not _is_conversation(messages):
        raise PromptError(
            "'messages' is not a list of messages", field=where, remedy='give [{"role": "user", "content": "..."}]'
        )
    if messages[-1]["role"] == "assistant":
        raise PromptError("'messages' end with the assistant's answer", field=where, remedy="move it to 'completion'")
    if not tokenizer.chat_template:
        raise PromptError("the model has no chat template for 'messages'", field=where, remedy="use 'prompt'")
    try:
        return encode_chat(tokenizer, messages)
    except (TemplateError, TypeError, ValueError) as error:
        raise PromptError(f"the chat template refuses 'messages' ({error})", field=where, remedy="mend them") from None


def _is_conversation(messages: object) -> TypeGuard[list[dict[str, str]]]:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            and _is_unicode(message["content"])
            for message in messages
        )
    )
