"""Commands that would read a file, for messages that refuse it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from autokv.errors import WorkloadError


def command(path: Path, *options: str) -> str:
    """A look at the trace with these options, as it is typed."""
    return f"`autokv trace inspect {shlex.join([str(path), *options])}`"


def evaluate_command(path: Path) -> str:
    """What judges configurations on the prompts of a file."""
    return f"`autokv evaluate --model MODEL --config CONFIG --prompts {shlex.quote(str(path))}`"


OWN = {
    "pipeline": ("a configuration", "autokv evaluate --model MODEL --config"),
    "stages": ("a search space", "autokv tune --model MODEL --space"),
}
"""AutoKV's own documents by the key that tells them: what each is, and what reads it."""


def own_document(path: Path, keys: Iterable[str]) -> WorkloadError | None:
    """The refusal of a file of AutoKV's own that is no trace, by its keys; ``None`` of any other."""
    for key in OWN.keys() & set(keys):
        what, read = OWN[key]
        return WorkloadError(
            f"is {what}, not a trace", field=str(path), remedy=f"it is read by `{read} {shlex.quote(str(path))}`"
        )
    return None


def column_options(columns: Mapping[str, str]) -> list[str]:
    """Options that name these columns."""
    return [part for field, name in columns.items() for part in ("--column", f"{field}={name}")]
