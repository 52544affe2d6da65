"""Headers of requests: entity tags, what is accepted, and how long a caller waits."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Header
from pydantic import Field
from starlette.exceptions import HTTPException

from autokv.api.paging import Query
from autokv.documents import Format
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


MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "yaml": "application/yaml"}
_NAMES: dict[str, Format] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "application/yaml": "yaml",
    "application/x-yaml": "yaml",
    "text/yaml": "yaml",
    "text/x-yaml": "yaml",
    "text/*": "yaml",
}

Accept = Annotated[str | None, Header(max_length=MAX_HEADER, include_in_schema=False)]


class FormatQuery(Query):
    """As what."""

    format: Format | None = Field(None, description="instead of what `Accept` asks for")


def chosen(query: FormatQuery, accept: str | None) -> Format:
    """The format that is asked for: JSON by default, YAML on request.

    Raises:
        HTTPException: 406; neither is taken.
    """
    if query.format is not None:
        return query.format
    liked: dict[Format, float] = {}
    for part in (accept or "*/*").split(","):
        media, *parameters = (text.strip().lower() for text in part.split(";"))
        if media in _NAMES:
            name = _NAMES[media]
            liked[name] = max(liked.get(name, 0.0), _quality(parameters))
    best = max(liked, key=lambda name: (liked[name], name == "json"), default=None)
    if best is None or not liked[best]:
        raise HTTPException(406, f"there is {' and '.join(MEDIA_TYPES.values())}, and neither is accepted")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def check_media_type(header: str, allowed: Collection[str], wanted: str) -> None:
    """Refuse a body whose ``Content-Type`` is not ``allowed``.

    Raises:
        HTTPException: 415; it says what is ``wanted``.
    """
    media = header.partition(";")[0].strip().lower()
    if media not in allowed:
        raise HTTPException(415, f"the body is {media[:100] or 'of no media type'}; send {wanted}")


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
