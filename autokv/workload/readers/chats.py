"""Texts whose tokens a tokenizer counts: conversations, and prompts with the length of their answers.

A conversation is a JSON object, one a line or in a list, with its messages under ``conversations`` (ShareGPT),
``conversation`` (LMSYS, WildChat) or ``messages`` (OpenAI, UltraChat); who speaks is under ``from`` or ``role``, the
text under ``value`` or ``content``. Every answer becomes a request whose input is all that was said before it, without
a chat template. Answers that nothing precedes and empty answers are left out and counted in a note.

Where the last message asks and the object says how long its answer is (``output_length``, ``output_tokens``,
``max_completion_tokens`` and the like), it is one request, as are a ``prompt`` (vLLM's custom data sets) and a
``text_input`` (Mooncake's traces of texts). What belongs to the call may lie under ``body``, as in OpenAI's batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from autokv.errors import WorkloadError
from autokv.workload.readers.arrow import session_number
from autokv.workload.readers.columns import NONE, Columns, Row, checked, counted, from_rows
from autokv.workload.readers.documents import documents
from autokv.workload.readers.json_rows import number_in
from autokv.workload.readers.names import NAMES
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions, Tokenizer, command, evaluate_command
from autokv.workload.readers.times import TimeUnit, checked_unit, nanoseconds, unit_of
from autokv.workload.readers.turns import following
from autokv.workload.source import Source

BATCH_CHARACTERS = 1 << 20
"""Text that is tokenized at once."""
ANSWERS = frozenset({"gpt", "chatgpt", "assistant", "model", "bot", "bing", "bard", "ai"})
"""Who answers; anyone else (human, user, system, tool) asks."""
MESSAGES = ("conversations", "conversation", "messages", "input")
PROMPTS = ("prompt", "text_input")
REPLIES = ("completion", "response", "answer", "generated_text")
STATED = ("output_length", "output_tokens", "output_len", "expected_output_len")
ALLOWED = ("max_completion_tokens", "max_output_tokens", "max_tokens")
CALLS = ("body", "payload")
UNANSWERED = "has neither an answer nor a number of output tokens"
EXAMPLE_MODEL = "Qwen/Qwen3-0.6B"

Message = tuple[bool, str]
"""Whether it is an answer, and its text."""


@dataclass(frozen=True)
class Chat:
    """What one object says."""

    messages: Sequence[Message]
    stated: int | None
    """Output tokens of the answer to the last message, where that is none itself."""
    allowed: bool
    """Whether they are only the most that was allowed."""
    record: Mapping[str, Any]


@dataclass(frozen=True)
class ChatReader:
    """Reads conversations and prompts."""

    name: ClassVar[str] = "chats"
    expects: ClassVar[str] = "JSON with conversations, messages or prompts (needs a tokenizer)"

    def recognizes(self, opening: Opening) -> bool:
        """The first object has messages or a prompt, itself or for the call that it holds."""
        texts = {*MESSAGES, *PROMPTS} - {"input"}
        if opening.record is None:  # a long conversation
            return bool(texts & opening.keys)
        calls = (opening.record.get(name) for name in CALLS)
        return _texts(opening.record) in texts or any(isinstance(call, dict) and _texts(call) for call in calls)

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`.

        Raises:
            WorkloadError: also where there is no tokenizer, or it fails.
        """
        opening = Opening(source.head)
        if options.tokenizer is None:
            if opening.records and all(map(_is_unanswered, opening.records)):
                raise only_prompts(source)
            raise WorkloadError(
                "holds texts, whose tokens only a tokenizer can count",
                field=str(source.path),
                remedy="name the model that is to answer them, such as "
                f"{command(source.path, '--tokenizer', EXAMPLE_MODEL)}",
            )
        record = opening.record or {}
        clock = _clock(record, options.time_unit)
        rows: list[Row] = []
        lines: list[int] = []
        left_out = allowed = 0
        adds = False
        for index, (line, chat, tokens) in enumerate(_counted(source, options.tokenizer, bad)):
            try:
                found, unanswered = _requests(chat, tokens, index, clock)
            except ValueError as error:
                bad.add(line, str(error))
                continue
            rows += found
            lines += [line] * len(found)
            left_out += unanswered
            allowed += chat.allowed
            adds |= chat.record.get("message_mode") == "delta" or "text_input" in chat.record
        if not rows and bad.reason == UNANSWERED:
            raise only_prompts(source)
        columns = following(from_rows(rows, lines), adds=adds)
        notes = columns.notes
        if left_out:
            notes += (f"left out: {counted(left_out, 'answer')} without a question or without text",)
        if allowed:
            notes += (f"{counted(allowed, 'request')}: the output tokens are the most that the call allowed",)
        return replace(columns, notes=notes, unit=None if clock is None else clock[1])


def only_prompts(source: Source) -> WorkloadError:
    """For a file that says nothing of answers."""
    return WorkloadError(
        "holds prompts, not requests: nothing says how long their answers are",
        field=str(source.path),
        remedy=f"judge configurations on them: {evaluate_command(source.path)}",
    )


def _is_unanswered(record: Mapping[str, Any]) -> bool:
    try:
        _chat(record)
    except ValueError as error:
        return str(error) == UNANSWERED
    return False


def _clock(record: Mapping[str, Any], unit: TimeUnit | None) -> tuple[str, TimeUnit] | None:
    """The key of the objects' arrivals and their unit, if they have any. Mooncake's are milliseconds."""
    name = next((name for name in NAMES["arrival"] if isinstance(record.get(name), int | float | str)), None)
    if name is None:
        if unit is not None and "delay" not in record:
            raise WorkloadError("this trace has no timestamps", field="time_unit", remedy="leave it out")
        return None
    looks = unit_of(record[name])
    mooncake = looks == "s" and ("text_input" in record or "output_length" in record)
    return name, checked_unit(unit, "ms" if mooncake else looks or "iso", name)


def _requests(
    chat: Chat, tokens: Sequence[int], index: int, clock: tuple[str, TimeUnit] | None
) -> tuple[list[Row], int]:
    """The requests of one object, and how many of its answers were left out.

    Raises:
        ValueError: its figures make no sense.
    """
    arrival = 0
    record = chat.record
    delay = NONE if record.get("delay") is None else nanoseconds(number_in(record, "delay"), "ms")
    if clock is not None and delay == NONE:
        value = record.get(clock[0])
        arrival = nanoseconds(value if isinstance(value, str) else number_in(record, clock[0]), clock[1])
    named = record.get("session_id")
    session = session_number(named) if isinstance(named, str | int) else NONE
    if chat.stated is not None:
        return [checked(Row(arrival, sum(tokens), chat.stated, session=session, delay_ns=delay))], 0
    rows: list[Row] = []
    context = turn = left_out = 0
    for (answers, _), count in zip(chat.messages, tokens, strict=True):
        turn += answers
        if answers and context and count:
            rows.append(checked(Row(arrival, context, count, session=index, turn=turn)))
        else:
            left_out += answers
        context += count
    return rows, left_out


def _counted(source: Source, tokenizer: Tokenizer, bad: BadRows) -> Iterator[tuple[int, Chat, Sequence[int]]]:
    """(line, chat, tokens of each message) of each object."""
    waiting: list[tuple[int, Chat]] = []
    characters = 0
    for line, document in documents(source, bad):
        try:
            chat = _chat(document)
        except ValueError as error:
            bad.add(line, str(error))
            continue
        waiting.append((line, chat))
        characters += sum(len(text) for _, text in chat.messages)
        if characters >= BATCH_CHARACTERS:
            yield from _tokenized(waiting, tokenizer, source)
            waiting, characters = [], 0
    yield from _tokenized(waiting, tokenizer, source)


def _chat(document: Mapping[str, Any]) -> Chat:
    calls = (document.get(name) for name in CALLS)
    call = next((call for call in calls if isinstance(call, dict) and _texts(call)), document)
    messages = _messages(call)
    if messages and messages[-1][0]:
        return Chat(messages, None, allowed=False, record=document)
    for name in (*STATED, *ALLOWED):
        for holder in (call, document):
            if holder.get(name) is not None:
                return Chat(messages, int(number_in(holder, name)), allowed=name in ALLOWED, record=document)
    if any(answers for answers, _ in messages) or not messages:
        return Chat(messages, None, allowed=False, record=document)
    raise ValueError(UNANSWERED)


def _texts(call: Mapping[str, Any]) -> str | None:
    """The key under which its messages or its prompt lie."""
    lists = (name for name in MESSAGES if isinstance(call.get(name), list))
    prompts = (name for name in (*PROMPTS, "input") if isinstance(call.get(name), str))
    return next(lists, None) or next(prompts, None)


def _messages(call: Mapping[str, Any]) -> list[Message]:
    name = _texts(call)
    if name is None:
        there = next((name for name in (*MESSAGES, *PROMPTS) if name in call), "messages")
        raise ValueError(f"{there} is not a list of messages")
    if isinstance(call[name], str):
        reply = next((call[key] for key in REPLIES if isinstance(call.get(key), str)), None)
        return [(False, _clean(call[name])), *([] if reply is None else [(True, _clean(reply))])]
    return [_message(turn) for turn in call[name]]


def _message(turn: object) -> Message:
    if isinstance(turn, dict):
        speaker = turn.get("from", turn.get("role"))
        text = _text(turn["value"] if "value" in turn else turn.get("content", turn.get("text")))
        if isinstance(speaker, str) and text is not None:
            return speaker.lower() in ANSWERS, _clean(text)
    raise ValueError("a message does not say who speaks (from, role) or what (value, content)")


def _text(content: object) -> str | None:
    """The text of a message: itself, the texts among its parts, or nothing where it only calls a tool."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def _clean(text: str) -> str:
    # A lone surrogate is legal in JSON, and no text for a tokenizer.
    return text.encode("utf-8", "replace").decode()


def _tokenized(
    chats: Sequence[tuple[int, Chat]], tokenizer: Tokenizer, source: Source
) -> Iterator[tuple[int, Chat, Sequence[int]]]:
    texts = [text for _, chat in chats for _, text in chat.messages]
    if not texts:
        return
    try:
        counts = iter([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])
    except Exception as error:
        raise WorkloadError(
            f"the tokenizer fails on it ({type(error).__name__}: {str(error)[:80]})",
            field=str(source.path),
            remedy="name another model",
        ) from None
    for line, chat in chats:
        yield line, chat, [next(counts) for _ in chat.messages]
