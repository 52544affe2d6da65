"""Commands that messages name, spelled so that they run as they stand. Loads without storage or torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from autokv import settings

RESULTS = Path("autokv-results")
"""Where results go unless a command says otherwise."""


def resume_command(job_id: str, database_url: str, output: Path = RESULTS) -> str:
    """The command that goes on with a job of ``database_url`` and writes its results to ``output``."""
    parts = ["autokv", "tune", "--resume", job_id, *database_option(database_url)]
    return shlex.join([*parts, "--output", str(output)] if output != RESULTS else parts)


def generate_command(recommended: Path) -> str:
    """The command that answers a prompt with the configuration of a file."""
    return shlex.join(["autokv", "generate", "--config", str(recommended), "--prompt", "Why is the sky blue?"])


def database_option(database_url: str) -> list[str]:
    """``--database`` where a command would otherwise take another database."""
    return [] if database_url == settings.current().database_url else ["--database", database_url]
