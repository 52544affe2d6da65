"""What is found in an uploaded file, or one line that says why it cannot be used."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autokv.errors import PromptError, WorkloadError

BYTES_PER_TOKEN = 4


def trace_facts(file: Path, name: str, reading: Mapping[str, Any]) -> Mapping[str, Any]:
    """Format, requests, rates and lengths of a trace; ``name`` stands for the file in errors.

    The tokens of texts are estimated, without a model: the model of a job counts them.

    Args:
        file: the trace.
        name: of the file.
        reading: arguments of :func:`~autokv.workload.read_trace`.

    Raises:
        WorkloadError: it is no trace; the message names the line.
    """
    from autokv.workload import read_trace

    estimate = _Estimate()
    with _called(file, name):
        trace = read_trace(file, tokenizer=estimate, **reading)
    guessed = [f"token counts are estimates, {BYTES_PER_TOKEN} bytes each: a job's model counts them"]
    return {
        "format": trace.format,
        **asdict(trace.summary()),
        "sessions": trace.session is not None,
        "prefixes": trace.prefixes is not None,
        "rejected": asdict(trace.rejected),
        "notes": [*trace.notes, *(guessed if estimate.used else [])],
    }


class _Estimate:
    """Counts the tokens of texts by their bytes."""

    used = False

    def __call__(self, text: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        self.used = True
        return {"input_ids": [range(-(-len(item.encode()) // BYTES_PER_TOKEN)) for item in text]}


def prompts_facts(file: Path, name: str, _reading: Mapping[str, Any]) -> Mapping[str, Any]:
    """Prompts and completions of a file, every line checked; ``name`` stands for the file in errors.

    Raises:
        PromptError: it is no file of prompts; the message names the line.
    """
    from autokv.evaluation.prompts.records import prompt_file_facts

    with _called(file, name):
        return asdict(prompt_file_facts(file))


@contextmanager
def _called(file: Path, name: str) -> Iterator[None]:
    """Errors speak of ``name``, not of the temporary file."""
    try:
        yield
    except (PromptError, WorkloadError) as error:
        path = str(file)
        message, field = ((text or "").replace(path, name) for text in (error.message, error.field))
        remedy = (error.remedy or "").replace(path, shlex.quote(name))  # it stands in a command
        raise type(error)(message, field=field or None, remedy=remedy or None) from None
