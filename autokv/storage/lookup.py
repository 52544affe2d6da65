"""Finding one thing by the beginning of its name."""

from __future__ import annotations

from collections.abc import Sequence

from autokv.errors import StorageError

SHOWN = 3


def only_match(kind: str, prefix: str, matches: Sequence[str], remedy: str) -> str:
    """The only one of ``matches``, the names that begin with ``prefix``.

    Raises:
        StorageError: there is none, or more than one.
    """
    if not prefix or not matches:
        raise StorageError(f"there is no {kind} {prefix!r}", remedy=remedy)
    if len(matches) > 1:
        shown = ", ".join(name[:12] for name in matches[:SHOWN]) + (", …" if len(matches) > SHOWN else "")
        raise StorageError(f"{kind} {prefix!r} could be {shown}", remedy="give more of its characters")
    return matches[0]
