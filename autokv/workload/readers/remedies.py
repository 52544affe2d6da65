"""Commands that would read a file, for messages that refuse it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path


def command(path: Path, *options: str) -> str:
    """A look at the trace with these options, as it is typed."""
    return f"`autokv trace inspect {shlex.join([str(path), *options])}`"


def evaluate_command(path: Path) -> str:
    """What judges configurations on the prompts of a file."""
    return f"`autokv evaluate --model MODEL --config CONFIG --prompts {shlex.quote(str(path))}`"


def column_options(columns: Mapping[str, str]) -> list[str]:
    """Options that name these columns."""
    return [part for field, name in columns.items() for part in ("--column", f"{field}={name}")]
