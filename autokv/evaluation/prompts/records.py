"""The lines of a prompt file, checked without a tokenizer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from autokv.errors import PromptError
from autokv.files import read_plain

MAX_PROMPT_FILE_BYTES = 256 << 20
"""A larger file is refused unread."""
OPENING_BYTES = 1 << 16


@dataclass(frozen=True)
class PromptRecord:
    """One line: a text or a conversation, and what is known to follow it."""

    line: int
    where: str
    """File and line, for messages."""
    prompt: str | list[dict[str, str]]
    """A text, or a conversation of ``role`` and ``content``."""
    completion: str | None
    answers: tuple[str, ...] = ()
    """Accepted answers."""


@dataclass(frozen=True)
class PromptFileFacts:
    """What a prompt file holds."""

    prompts: int
    distinct: int
    conversations: int
    """Of the prompts, those that are conversations."""
    completions: int
    """Of the prompts, those that have one."""
    characters: int
    """Of all prompts, without completions."""


def read_records(path: str | Path) -> Iterator[PromptRecord]:
    """The lines that are not blank.

    Raises:
        PromptError: the file is missing, empty, binary, too large or a trace, or a line is malformed, which it names.
    """
    data = read_plain(Path(path), limit=MAX_PROMPT_FILE_BYTES, error=PromptError, what="prompt")
    read = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _record(line, number, f"{path}:{number}")
        except PromptError:
            if not read and _is_trace(data):
                remedy = f"give it as a workload: `autokv tune --model MODEL --workload {shlex.quote(str(path))}`"
                raise PromptError("holds requests, not prompts", field=str(path), remedy=remedy) from None
            raise
        read += 1
        yield record


def _is_trace(data: bytes) -> bool:
    """Whether a file that is none of prompts is a trace without texts."""
    from autokv.workload.readers import READERS, Opening

    try:
        opening = Opening(data[:OPENING_BYTES])
    except UnicodeDecodeError:
        return False
    return any(reader.recognizes(opening) for name, reader in READERS.items() if name != "chats")


def prompt_file_facts(path: str | Path) -> PromptFileFacts:
    """Check every line of a prompt file, and count what is there.

    Raises:
        PromptError: as for :func:`read_records`.
    """
    seen: set[int] = set()
    prompts = conversations = completions = characters = 0
    for record in read_records(path):
        prompts += 1
        conversations += isinstance(record.prompt, list)
        completions += record.completion is not None
        texts = [record.prompt] if isinstance(record.prompt, str) else [turn["content"] for turn in record.prompt]
        characters += sum(map(len, texts))
        seen.add(hash(json.dumps(record.prompt)))
    return PromptFileFacts(prompts, len(seen), conversations, completions, characters)


def _record(line: bytes, number: int, where: str) -> PromptRecord:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"is not JSON ({error})", field=where, remedy="write one object a line") from None
    if not isinstance(record, dict):
        raise PromptError("is not a JSON object", field=where, remedy='write {"prompt": "..."}')
    if "messages" in record and "prompt" not in record:
        prompt: str | list[dict[str, str]] = _conversation(record["messages"], where)
    elif "prompt" not in record and {"context", "input"} <= record.keys():
        # LongBench's own rows; where there is no question, the input is empty.
        question = "" if record["input"] == "" else f"\n\n{_text(record, 'input', where)}"
        prompt = _text(record, "context", where) + question
    else:
        prompt = _text(record, "prompt", where)
    completion = None if record.get("completion") is None else _text(record, "completion", where)
    return PromptRecord(number, where, prompt, completion, _answers(record.get("answers"), where))


def _answers(answers: object, where: str) -> tuple[str, ...]:
    if answers is None:
        return ()
    if not isinstance(answers, list) or not answers:
        raise PromptError("'answers' is not a list of texts", field=where, remedy='give ["..."], or leave it out')
    return tuple(_text({"answers": answer}, "answers", where) for answer in answers)


def _text(record: dict[str, Any], key: str, where: str) -> str:
    if key not in record:
        keys = ", ".join(map(repr, record)) or "no keys"
        raise PromptError(
            f"has neither 'prompt' nor 'messages', only {keys[:80]}",
            field=where,
            remedy='write {"prompt": "..."}, or LongBench\'s "context" and "input"',
        )
    value = record[key]
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise PromptError(f"{key!r} is not a text", field=where, remedy="give a string that is not blank")
    return value


def _is_unicode(text: str) -> bool:
    """Whether there is no lone surrogate, which JSON can spell and tokenizers cannot take."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _conversation(messages: object, where: str) -> list[dict[str, str]]:
    if not _is_conversation(messages):
        raise PromptError(
            "'messages' is not a list of messages", field=where, remedy='give [{"role": "user", "content": "..."}]'
        )
    if messages[-1]["role"] == "assistant":
        raise PromptError("'messages' end with the assistant's answer", field=where, remedy="move it to 'completion'")
    return messages


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
