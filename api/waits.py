"""``Prefer: wait=N`` (RFC 7240): hold an answer back until a job has ended."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header

from autokv.errors import RequestError

MAX_WAIT_SECONDS = 60
_PREFERENCE = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6})"?\s*(?=$|[,;])', re.IGNORECASE)
_MENTIONED = re.compile(r"(?:^|[,;])\s*wait\b", re.IGNORECASE)


async def _seconds(
    prefer: Annotated[
        str | None, Header(max_length=200, description=f"`wait=N`, seconds, {MAX_WAIT_SECONDS} at most")
    ] = None,
) -> int:
    if prefer is None:
        return 0
    found = _PREFERENCE.search(prefer)
    if found is not None:
        return min(int(found[1]), MAX_WAIT_SECONDS)
    if _MENTIONED.search(prefer):
        raise RequestError("wait takes whole seconds", field="Prefer", remedy="write it as in `wait=30`")
    return 0


Wait = Annotated[int, Depends(_seconds)]
"""Seconds that the caller wants to wait for the job's end; 0 where it does not. Other preferences are ignored."""


def applied(seconds: int) -> dict[str, str]:
    """The header that says that it was waited."""
    return {"Preference-Applied": f"wait={seconds}"} if seconds else {}
