"""What a trace reader offers, what it is given, and the commands that it proposes where it refuses a file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import Columns
from autokv.workload.readers.opening import Opening
from autokv.workload.readers.times import TimeUnit
from autokv.workload.source import Source
from autokv.workload.trace import RejectedRows

MAX_BAD_ROWS = 100_000
"""A file with more bad rows is refused, whatever their share."""
NAMED_LINES = 5
"""Bad lines that are named."""


class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of transformers answer it."""

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        """A mapping whose ``input_ids`` has a list of tokens for each text."""


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say of a file."""

    tokenizer: Tokenizer | None = None
    """For formats that hold text."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """For a table of one's own: a field to the name of its column."""
    time_unit: TimeUnit | None = None
    """Of the timestamps, where they are not in the format's own."""
    block_tokens: int | None = None
    """Of a hashed block, where the lengths do not tell it."""


@dataclass(slots=True)
class BadRows:
    """Rows that are left out; readers add them as they find them."""

    where: str
    """The file, for messages."""
    count: int = 0
    lines: list[int] = field(default_factory=list)
    reason: str = ""
    cut_line: int = 0
    """The last one whose text may have lost its end."""
    cut_reason: str = ""

    def add(self, line: int, reason: str, *, cut: bool = False) -> None:
        """Count a row; ``cut`` if it may be the beginning of one.

        Raises:
            WorkloadError: there are more than :data:`MAX_BAD_ROWS`.
        """
        self.count += 1
        self.reason = self.reason or reason
        if cut:
            self.cut_line, self.cut_reason = line, reason
        if len(self.lines) < NAMED_LINES:
            self.lines.append(line)
        if self.count > MAX_BAD_ROWS:
            raise WorkloadError(
                f"more than {MAX_BAD_ROWS} rows are bad, the first because of: {self.reason}",
                field=f"{self.where}:{self.lines[0]}",
                remedy="repair or remove them",
            )

    def summary(self) -> RejectedRows:
        """What a trace says of them."""
        return RejectedRows(self.count, tuple(self.lines), self.reason)


class Reader(Protocol):
    """A trace format."""

    @property
    def name(self) -> str:
        """The format's name."""

    @property
    def expects(self) -> str:
        """How the format looks, for messages."""

    def recognizes(self, opening: Opening) -> bool:
        """Whether a file that opens like this has the format."""

    def read(self, source: Source, options: ReadOptions, bad: BadRows) -> Columns:
        """The requests of the file in its order, arrivals from any fixed start.

        Rows that are no requests are added to ``bad``; a file that cannot be read to its end is a ``WorkloadError``.
        """


def command(path: Path, *options: str) -> str:
    """A look at the trace with these options, as it is typed."""
    return f"`autokv trace inspect {shlex.join([str(path), *options])}`"


def evaluate_command(path: Path) -> str:
    """What judges configurations on the prompts of a file."""
    return f"`autokv evaluate --model MODEL --config CONFIG --prompts {shlex.quote(str(path))}`"


def column_options(columns: Mapping[str, str]) -> list[str]:
    """Options that name these columns."""
    return [part for field, name in columns.items() for part in ("--column", f"{field}={name}")]
