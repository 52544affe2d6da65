"""ShareGPT conversations: a JSON list of objects with ``conversations``, each a list of ``from`` and ``value``.

The texts are counted with the tokenizer of the model that is to serve them. Every answer becomes a request whose input
is all that was said before it, without a chat template. There are no arrivals. Answers that nothing precedes (many
conversations begin with one) and empty answers are left out and counted in a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns, Row, checked, counted, from_rows
from autokv.workload.readers.documents import documents
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.reader import BadRows, ReadOptions, Tokenizer
from autokv.workload.source import Source

BATCH_CHARACTERS = 1 << 20
"""Text that is tokenized at once."""
ANSWERS = frozenset({"gpt", "chatgpt", "assistant", "model", "bot", "bing", "bard"})
"""Who answers; anyone else (human, user, system, tool) asks."""

Message = tuple[bool, str]
"""Whether it is an answer, and its text."""


@dataclass(frozen=True)
class ShareGptReader:
    """Reads ShareGPT conversations."""

    name: ClassVar[str] = "sharegpt"
    expects: ClassVar[str] = "JSON list of objects with conversations (needs a tokenizer)"

    def recognizes(self, opening: Opening) -> bool:
        """The first object has conversations."""
        return "conversations" in opening.keys

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """See :class:`~autokv.workload.readers.reader.Reader`.

        Raises:
            WorkloadError: also where there is no tokenizer, or it fails.
        """
        if options.tokenizer is None:
            raise WorkloadError(
                "holds texts, whose tokens only a tokenizer can count",
                field=str(source.path),
                remedy="name the model that is to answer them",
            )
        if options.time_unit is not None:
            raise WorkloadError("this format has no timestamps", field="time_unit", remedy="leave it out")
        rows: list[Row] = []
        lines: list[int] = []
        left_out = 0
        for session, (line, messages, tokens) in enumerate(_counted(source, options.tokenizer, bad)):
            context = turn = 0
            for (answers, _), count in zip(messages, tokens, strict=True):
                turn += answers
                if answers and context and count:
                    try:
                        rows.append(checked(Row(0, context, count, session=session, turn=turn)))
                        lines.append(line)
                    except ValueError as error:
                        bad.add(line, str(error))
                else:
                    left_out += answers
                context += count
        columns = from_rows(rows, lines)
        if not left_out:
            return columns
        return replace(columns, notes=(f"left out: {counted(left_out, 'answer')} without a question or without text",))


def _counted(
    source: Source, tokenizer: Tokenizer, bad: BadRows
) -> Iterator[tuple[int, Sequence[Message], Sequence[int]]]:
    """(line, messages, tokens of each message) of each conversation."""
    waiting: list[tuple[int, Sequence[Message]]] = []
    characters = 0
    for line, document in documents(source, bad):
        try:
            messages = _messages(document)
        except ValueError as error:
            bad.add(line, str(error))
            continue
        waiting.append((line, messages))
        characters += sum(len(text) for _, text in messages)
        if characters >= BATCH_CHARACTERS:
            yield from _tokenized(waiting, tokenizer, source)
            waiting, characters = [], 0
    yield from _tokenized(waiting, tokenizer, source)


def _messages(document: dict[str, Any]) -> list[Message]:
    turns = document.get("conversations")
    if not isinstance(turns, list):
        raise ValueError("conversations is not a list")  # noqa: TRY004 - a bad conversation is a ValueError
    messages = []
    for turn in turns:
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise ValueError("a turn has no from or no value")  # noqa: TRY004 - likewise
        # A lone surrogate is legal in JSON, and no text for a tokenizer.
        messages.append((speaker in ANSWERS, text.encode("utf-8", "replace").decode()))
    return messages


def _tokenized(
    conversations: Sequence[tuple[int, Sequence[Message]]], tokenizer: Tokenizer, source: Source
) -> Iterator[tuple[int, Sequence[Message], Sequence[int]]]:
    texts = [text for _, messages in conversations for _, text in messages]
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
    for line, messages in conversations:
        yield line, messages, [next(counts) for _ in messages]
