"""Reading a file that a user names, bounded; writing one so that it is there whole or not at all; the cache folder."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autokv.errors import InputError, StorageError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space or write elsewhere"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or write elsewhere"),
    errno.EFBIG: ("the file is larger than this system allows", "write elsewhere or raise the limit"),
}


def read_limited(path: str | Path, *, limit: int, error: type[InputError], remedy: str = "use a part of it") -> bytes:
    """The bytes of a file of at most ``limit`` bytes, of whatever kind; it may be a pipe.

    Raises:
        InputError: of type ``error``; the file is missing or larger (``remedy`` says what to do then).
    """
    where = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", field=where, remedy="check the path") from None
    except ValueError:
        raise error("is no path", field=repr(where), remedy="check the path") from None
    if len(data) > limit:
        raise error(f"is larger than {limit} bytes", field=where, remedy=remedy)
    return data


def read_plain(path: Path, *, limit: int, error: type[InputError], what: str) -> bytes:
    """The bytes of a regular file of text, without a byte order mark.

    Args:
        limit: most bytes that are read.
        error: what is raised; the path is its field.
        what: names the content in messages (``trace``, ``text``).

    Raises:
        InputError: of type ``error``; the file is missing, not a regular file, too large, empty or binary (it holds a
            NUL byte).
    """
    where = str(path)
    check_regular(path, limit=limit, error=error, what=what)
    data = read_limited(path, limit=limit, error=error).removeprefix(BYTE_ORDER_MARK)
    if not data.strip():
        raise error("is empty", field=where, remedy=f"name a {what} file with content")
    if b"\0" in data:
        raise error("is binary", field=where, remedy=f"name a {what} in plain text (decompress it first)")
    return data


def check_regular(path: Path, *, limit: int, error: type[InputError], what: str) -> int:
    """The size in bytes of a regular file; the arguments are those of :func:`read_plain`.

    Raises:
        InputError: of type ``error``; the file is missing, not a regular file, too large, or cannot be looked at.
    """
    where = str(path)
    try:
        if not path.exists():
            raise error("does not exist", field=where, remedy="check the path")
        if not path.is_file():
            raise error("is not a regular file", field=where, remedy=f"name a {what} file")
        size = path.stat().st_size
    except (OSError, ValueError) as failure:  # ValueError: a NUL in the path
        reason = getattr(failure, "strerror", None) or failure
        raise error(f"cannot be read ({reason})", field=where, remedy="check the path") from None
    if size > limit:
        raise error(
            f"has {size} bytes, more than the limit of {limit} for a {what}", field=where, remedy="use a part of it"
        )
    return size


def default_cache_folder() -> Path:
    """Where lies what can be made again, unless ``AUTOKV_CACHE_DIR`` names another folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autokv"


def cache_folder(room: str) -> Path:
    """What a room keeps in the cache folder of :class:`autokv.settings.Settings`; it need not exist."""
    return Path(os.environ.get("AUTOKV_CACHE_DIR") or default_cache_folder()).expanduser() / room


def line_of(data: bytes, position: int) -> int:
    """Number, from 1, of the line that holds the byte at ``position``."""
    return data.count(b"\n", 0, position) + 1


def write_atomic(path: str | Path, data: str | bytes) -> Path:
    """Write ``data`` (text as UTF-8) to ``path``, as :func:`replacing` does, and return the path.

    Raises:
        StorageError: the disk is full, the folder is not writable, or the target is not an ordinary file.
    """
    encoded = data.encode() if isinstance(data, str) else data
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)
    return Path(path)


@contextmanager
def replacing(path: str | Path, error: type[InputError] = StorageError) -> Iterator[Path]:
    """The name of a new file beside ``path``, for the block to write; at its end the file becomes ``path``.

    It reaches the disk before it takes the target's name; the parent folder is created. Whatever goes wrong, in the
    block too, a file that was there before is untouched and no temporary stays.

    Raises:
        InputError: of type ``error``; the disk is full, the folder is not writable, or the target is not an ordinary
            file.
    """
    shown = str(path)
    try:
        target = Path(path).resolve()
        if target.exists() and not target.is_file():
            raise error("is not an ordinary file", field=shown, remedy="name a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.tmp")
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except OSError as failure:
        message, remedy = _REMEDIES.get(failure.errno or 0, (failure.strerror or str(failure), "check the path"))
        raise error(f"cannot be written ({message})", field=shown, remedy=remedy) from None


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


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; Windows has no such call and needs none."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
