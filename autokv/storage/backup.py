"""Copying a database to a file while others use it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from autokv.errors import ConflictError, StorageError
from autokv.storage.engine import parse, shown, translated


def backup(url: str, target: Path) -> int:
    """Copy the database of any schema, as it is at one moment, to the new file ``target``; returns its size in bytes.

    SQLite's copy is a database, PostgreSQL's a dump for ``pg_restore``.

    Raises:
        ConflictError: the file is there already.
        UnavailableError: the database cannot be reached now.
        StorageError: there is no such database, or it cannot be copied; no file is left.
    """
    target = target.expanduser()
    if target.exists():
        raise ConflictError("is there already", field=str(target), remedy="name another file")
    parsed, backend = parse(url)
    engine = backend.open_engine(parsed, shown(url), create=False)
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with translated(parsed, backend, shown(url)):
            backend.backup(engine, parsed, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(target)
        return target.stat().st_size
    except OSError as error:
        raise StorageError(
            f"cannot be written ({error.strerror})", field=str(target), remedy="check the path"
        ) from None
    finally:
        engine.dispose()
        with suppress(OSError):
            part.unlink()
