"""Writing a file so that it is there whole or not at all, and whether one could be written."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from pathlib import Path

from autokv.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space or write elsewhere"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or write elsewhere"),
    errno.EFBIG: ("the file is larger than this system allows", "write elsewhere or raise the limit"),
}


def write_atomic(path: str | Path, data: str | bytes) -> Path:
    """Write ``data`` (text as UTF-8) to ``path`` and return the path.

    The data goes to a temporary file beside the target, reaches the disk, and only then takes the target's name; the
    parent folder is created. Whatever goes wrong, a file that was there before is untouched and no temporary stays.

    Raises:
        StorageError: the disk is full, the folder is not writable, or the target is not an ordinary file.
    """
    shown = str(path)
    encoded = data.encode() if isinstance(data, str) else data
    try:
        target = Path(path).resolve()
        if target.exists() and not target.is_file():
            raise StorageError("is not an ordinary file", field=shown, remedy="name a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, encoded)
    except OSError as error:
        message, remedy = _REMEDIES.get(error.errno or 0, (error.strerror or str(error), "check the path"))
        raise StorageError(f"cannot be written ({message})", field=shown, remedy=remedy) from None
    return Path(path)


def check_folder(path: str | Path) -> None:
    """Check, before long work, that files can be written into the folder ``path``, which is made later if it is new.

    Raises:
        StorageError: it is a file, or it, or what it would be made in, cannot be written to.
    """
    try:
        folder = Path(path).resolve()
        place = next(place for place in (folder, *folder.parents) if place.exists())
        if not place.is_dir():
            raise StorageError(
                "is not a folder" if place == folder else f"{place} is not a folder",
                field=str(path),
                remedy="name another folder",
            )
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot be written to ({reason})", field=str(path), remedy="name another folder") from None


def check_file(path: str | Path) -> None:
    """Check, before long work, that :func:`write_atomic` can write to ``path``.

    Raises:
        StorageError: it is a folder, or its folder cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise StorageError("is a folder", field=str(path), remedy="name a file")
    check_folder(target.parent)


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; Windows has no such call and needs none."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
