"""The beginning of a file, by which formats are told apart."""

from __future__ import annotations

import csv
import re
from functools import cached_property

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}:,]')
DELIMITERS = (",", ";", "\t")


class Opening:
    """The first bytes of a file, decompressed: enough of them for a header or the keys of the first object."""

    def __init__(self, head: bytes) -> None:
        """Decode ``head``.

        Raises:
            UnicodeDecodeError: it is no UTF-8 (a character that is cut off at its end is none of its own).
        """
        self.head = head
        try:
            text = head.decode()
        except UnicodeDecodeError as error:
            if len(head) - error.start > 3 or "end of data" not in error.reason:
                raise
            text = head[: error.start].decode()
        self.text = text.strip()
        self.first_line = self.text.split("\n", 1)[0].strip()
        self.first_line_number = text.count("\n", 0, len(text) - len(text.lstrip())) + 1

    @property
    def is_list(self) -> bool:
        """Whether it is a JSON list."""
        return self.text.startswith("[")

    @property
    def is_object(self) -> bool:
        """Whether it opens with a JSON object."""
        return self.text.startswith("{")

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of the first JSON object, or of the first object of a list, as far as they can be seen."""
        if not (self.is_object or self.is_list):
            return frozenset()
        depth, home, keys, last = 0, 1 + self.is_list, set(), ""
        for token in TOKEN.finditer(self.text):
            mark = token[0]
            if mark in "[{":
                depth += 1
            elif mark in "]}":
                depth -= 1
                if depth < home:
                    break
            elif mark == ":" and depth == home:
                keys.add(last)
            last = mark[1:-1]
        return frozenset(keys)

    def names(self, delimiter: str = ",") -> list[str]:
        """The first line as the header of a CSV."""
        return split(self.first_line, delimiter)


def split(line: str, delimiter: str = ",") -> list[str]:
    """The values of one line of CSV, without the blanks around them."""
    try:
        return [value.strip() for value in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a field beyond the module's limit
        return [line]
