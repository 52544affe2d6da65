"""``revision_of``: which weights a model has, so that a result can be told from one of a later upload."""

from __future__ import annotations

import hashlib
from pathlib import Path

from autokv import settings
from autokv.models.quiet import reading
from autokv.models.source import locate


def revision_of(model: str) -> str:
    """The commit of a model of the Hugging Face Hub, else ``sha256:`` and the digest of its weights' files.

    Args:
        model: as for :func:`autokv.models.load`; files are read whole, about a second for each gigabyte.

    Raises:
        ModelError: it is not there, or cannot be read.
    """
    source = locate(model, settings.current(), weights=True)
    if source.kind == "hub":
        return source.path.name
    with reading(source.name, "the weights"):
        files = [source.path] if source.kind == "gguf" else sorted(source.path.glob("*.safetensors"))
        return f"sha256:{_digest(files)}"


def _digest(files: list[Path]) -> str:
    """Of one file its SHA-256, as the hub shows it; of several that of their digests, in the order of their names."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
