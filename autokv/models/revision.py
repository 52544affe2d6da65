"""Which weights a result belongs to: the commit of a model from the hub, else a digest of its weight files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from autokv.models.source import Source

SAMPLES = 64
SAMPLE_BYTES = 1 << 14
_COMMIT = re.compile(r"[0-9a-f]{40}")


def revision_of(source: Source) -> str | None:
    """The hub's commit, or ``weights-`` and 16 hexadecimal digits of :func:`digest_of`; ``None`` without weights."""
    if source.kind == "hub" and _COMMIT.fullmatch(source.path.name):
        return source.path.name
    files = [source.path] if source.kind == "gguf" else sorted(source.path.glob("*.safetensors"))
    return f"weights-{digest_of(files)[:16]}" if files else None


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 over every file's name, size and 64 samples of 16 KiB, spread evenly from its start to its end.

    A file of up to 1 MiB is read whole. Of a larger one the samples take milliseconds where all of it takes minutes:
    other training or other quantization changes nearly every weight and is seen, an edit of a few weights may not be.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        last = max(size - SAMPLE_BYTES, 0)
        places = range(0, size, SAMPLE_BYTES) if size <= SAMPLES * SAMPLE_BYTES else _spread(last)
        with file.open("rb") as opened:
            for place in places:
                opened.seek(place)
                digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _spread(last: int) -> list[int]:
    return [last * sample // (SAMPLES - 1) for sample in range(SAMPLES)]
