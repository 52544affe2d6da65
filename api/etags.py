"""Entity tags: answers that are not sent again while they are the same (RFC 9110, 13.1)."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header

from autokv.errors import RequestError

MAX_HEADER = 4096
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", max_length=MAX_HEADER, description="entity tags that the caller has, or `*`"),
]


def known(header: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names ``tag``, compared weakly.

    Raises:
        RequestError: it is no list of entity tags.
    """
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return tag.removeprefix("W/") in tags(header, "If-None-Match")


def tags(header: str, name: str) -> list[str]:
    """The tags of a header, quoted, without their weakness.

    Raises:
        RequestError: it is no list of entity tags.
    """
    parts = [part.strip() for part in header.split(",") if part.strip()]
    found = [match[1] for part in parts if (match := _TAG.fullmatch(part))]
    if len(found) != len(parts) or not found:
        raise RequestError("is not an entity tag", field=name, remedy='quote it, as in "1", or send it as it came')
    return found
