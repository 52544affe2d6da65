"""Files that ship with the package; ``SOURCES.txt`` says where each comes from."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def builtin_text() -> Path:
    """An excerpt of a public-domain novel, about 41,000 tokens."""
    return FOLDER / "persuasion.txt"


def example_trace() -> Path:
    """A synthesized trace of 400 requests, in the Azure CSV format."""
    return FOLDER / "synthesized_trace.csv"
