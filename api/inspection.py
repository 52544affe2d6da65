"""What is found in an uploaded file, or one line that says why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autokv.errors import PromptError, WorkloadError


def trace_facts(file: Path, name: str) -> Mapping[str, Any]:
    """Format, requests, rates and lengths of a trace; ``name`` stands for the file in errors.

    Raises:
        WorkloadError: it is no trace; the message names the line.
    """
    from autokv.workload import read_trace

    with _called(file, name):
        trace = read_trace(file)
    return {
        "format": trace.format,
        **asdict(trace.summary()),
        "sessions": trace.session is not None,
        "prefixes": trace.prefixes is not None,
        "rejected": asdict(trace.rejected),
        "notes": list(trace.notes),
    }


def prompts_facts(file: Path, name: str) -> Mapping[str, Any]:
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
        message, field, remedy = (
            (text or "").replace(path, name) for text in (error.message, error.field, error.remedy)
        )
        raise type(error)(message, field=field or None, remedy=remedy or None) from None
