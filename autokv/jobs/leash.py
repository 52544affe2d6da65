"""A process that ends with the one that started it, however that one ends: a pipe between them, held open."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ORPHANED = 76
"""Exit code of a process whose parent is gone."""


def end_with_parent() -> None:
    """From now on, end this process as soon as its standard input ends.

    Nothing is buffered: a reader's lock would be in the way when Python exits.
    """
    threading.Thread(target=_wait, name="leash", daemon=True).start()


def read_line() -> str:
    """The first line of standard input; to be called before :func:`end_with_parent`."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(ORPHANED)
        line += byte
    return line.decode()


@contextmanager
def leash() -> Iterator[int]:
    """A file descriptor for the standard input of a child, which ends with this block, or with this process."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _wait() -> None:
    while os.read(0, 4096):
        pass
    os._exit(ORPHANED)
