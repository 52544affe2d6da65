"""Formats of JSON documents of several requests each: a list of them, one a line, or one; read one at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from autokv.errors import WorkloadError
from autokv.workload.readers.reader import BadRows
from autokv.workload.source import Source

MAX_DOCUMENT_CHARACTERS = 64 << 20
"""A file with a larger document is refused."""
LITERAL_CHARACTERS = 16
"""An error this near to the end of what has been read may come of its being cut there."""
BLANKS = re.compile(r"[ \t\r\n]*")
BLANKS_AND_COMMAS = re.compile(r"[ \t\r\n,]*")


def documents(source: Source, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, each with the number of the line where it begins.

    What is no object outside of a list is a bad row, to the end of its line.

    Raises:
        WorkloadError: the file ends inside of a document or a list, a document is too large, or a list holds something
            that cannot be read.
    """
    text = _Text(source)
    in_list = text.skip() == "["
    if in_list:
        text.take(1)
    while mark := text.skip(commas=in_list):
        if in_list and mark == "]":
            text.take(1)
            if text.skip():
                raise text.error("something follows the list", "remove it")
            return
        line = text.line
        try:
            document = text.document()
        except ValueError as error:
            if in_list:
                raise text.error(f"cannot be read ({error})", "repair the file") from None
            bad.add(line, str(error))
            text.drop_line()
            continue
        yield line, document
    if in_list:
        raise text.error("the list is cut off", "fetch the file again")


class _Text:
    """The text that is not consumed yet.

    The standard library decodes it. ijson, which streams too, names no line where it fails, cannot go on behind a bad
    document, and refuses what Python's own json writes: NaN, and beside floats integers of more than 64 bits.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._blocks = source.chunks()
        self._decode = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._parse = json.JSONDecoder().raw_decode
        self._buffer = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def skip(self, *, commas: bool = False) -> str:
        """Leave out blanks, and ``commas`` too. Returns the next character, "" at the end."""
        pattern = BLANKS_AND_COMMAS if commas else BLANKS
        while True:
            match = pattern.match(self._buffer, self._at)
            self.take(match.end() - self._at if match else 0)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def take(self, characters: int) -> None:
        """Consume characters."""
        end = self._at + characters
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def document(self) -> dict[str, Any]:
        """Consume one object.

        Raises:
            ValueError: here is none; nothing was consumed.
            WorkloadError: the file ends in it, or it is too large.
        """
        while True:
            try:
                value, end = self._parse(self._buffer, self._at)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - LITERAL_CHARACTERS
                if not unfinished:
                    raise ValueError(f"no JSON: {error.msg}") from None
                if self._more():
                    continue
                if self._buffer.endswith("\n"):
                    raise ValueError(f"no JSON: {error.msg}") from None
                raise self.error("is cut off inside of a document", "fetch the file again") from None
            except RecursionError:
                raise ValueError("nested too deeply") from None
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")  # noqa: TRY004 - a bad document is a ValueError
            self.take(end - self._at)
            return value

    def drop_line(self) -> None:
        """Consume to the end of the line."""
        while (end := self._buffer.find("\n", self._at)) < 0:
            self._at = len(self._buffer)
            if not self._more():
                return
        self.take(end + 1 - self._at)

    def error(self, message: str, remedy: str) -> WorkloadError:
        """An error at this line."""
        return WorkloadError(message, field=f"{self._source.path}:{self.line}", remedy=remedy)

    def _more(self) -> bool:
        """Read on, twice as much as waits already, so that no document is tried often. False at the end of the file."""
        if self._ended:
            return False
        waiting = self._buffer[self._at :]
        if len(waiting) > MAX_DOCUMENT_CHARACTERS:
            raise self.error(f"a document has more than {MAX_DOCUMENT_CHARACTERS} characters", "split it")
        parts, size = [waiting], len(waiting)
        wanted = 2 * size
        while size <= wanted:
            chunk = next(self._blocks, b"")
            if b"\0" in chunk:
                raise self._source.binary()
            try:
                parts.append(self._decode(chunk, not chunk))
            except UnicodeDecodeError:
                raise self._source.binary() from None
            size += len(parts[-1])
            if not chunk:
                self._ended = True
                break
        self._buffer, self._at = "".join(parts), 0
        return True
