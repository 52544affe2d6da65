"""Reading a file that a user names: bounded, regular, and text."""

from __future__ import annotations

from pathlib import Path

from autokv.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_bytes(path: Path, *, limit: int, error: type[InputError], what: str) -> bytes:
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
    try:
        data = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    except OSError as failure:
        raise error(f"cannot be read ({failure.strerror})", field=where, remedy="check the path") from None
    if not data.strip():
        raise error("is empty", field=where, remedy=f"name a {what} file with content")
    if b"\0" in data:
        raise error("is binary", field=where, remedy=f"name a {what} in plain text (decompress it first)")
    return data


def check_regular(path: Path, *, limit: int, error: type[InputError], what: str) -> int:
    """The size in bytes of a regular file; the arguments are those of :func:`read_bytes`.

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


def line_of(data: bytes, position: int) -> int:
    """Number, from 1, of the line that holds the byte at ``position``."""
    return data.count(b"\n", 0, position) + 1
