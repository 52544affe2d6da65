"""The beginning of a file, by which formats are told apart."""

from __future__ import annotations

import csv
import json
import re
from functools import cached_property
from typing import Any

YAML_KEY = re.compile(r"^([a-z_]+):(?:\s|$)", re.MULTILINE)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}:,]')
FIRST_ROWS = 20
"""That are looked at."""
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
        self.is_list = self.text.startswith("[")
        """Whether it is a JSON list."""
        self.is_object = self.text.startswith("{")
        """Whether it opens with a JSON object."""
        first, *rows = self.text.split("\n", 3 * FIRST_ROWS)
        self.first_line = first.strip()
        self.rows = [row.strip() for row in rows[:-1] or rows if row.strip()][:FIRST_ROWS]
        """The next lines, whole."""
        self.first_line_number = text.count("\n", 0, len(text) - len(text.lstrip())) + 1

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

    @property
    def yaml_keys(self) -> frozenset[str]:
        """The keys of the outermost mapping, if it is YAML in block style, as far as they can be seen."""
        return frozenset(YAML_KEY.findall(self.text))

    @cached_property
    def record(self) -> dict[str, Any] | None:
        """The first JSON object, or the first of a list; ``None`` if it is not whole within the first bytes."""
        if not (self.is_object or self.is_list):
            return None
        start = self.text.find("{")
        try:
            value, _ = json.JSONDecoder().raw_decode(self.text, start)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The first objects: those of the first lines, or the one that fills several."""
        if not self.is_one_a_line:
            return [] if self.record is None else [self.record]
        found = [json.loads(self.first_line)]
        for line in self.rows:
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                break
        return [record for record in found if isinstance(record, dict)]

    @cached_property
    def is_one_a_line(self) -> bool:
        """Whether the first line is a whole JSON object."""
        try:
            return self.is_object and isinstance(json.loads(self.first_line), dict)
        except (ValueError, RecursionError):
            return False

    @cached_property
    def delimiter(self) -> str:
        """What parts the columns of the first line, taken as the header of a CSV: the mark that parts most."""
        return max(DELIMITERS, key=lambda mark: len(self.names(mark)))

    def names(self, delimiter: str = ",") -> list[str]:
        """The first line as the header of a CSV."""
        return split(self.first_line, delimiter)


def split(line: str, delimiter: str = ",") -> list[str]:
    """The values of one line of CSV, without the blanks around them."""
    try:
        return [value.strip() for value in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a field beyond the module's limit
        return [line]
