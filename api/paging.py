"""Pages of lists: the query parameters that ask for one, and cursors that mean nothing to a client."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from autokv.errors import RequestError
from autokv.storage.repository import Cursor
from autokv.wire import Page, View

MAX_ITEMS = 200
MAX_CURSOR = 512
"""Characters; one that this server made is far shorter."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
"""A name that a parameter compares with what is stored; no database stores NUL."""
Item = TypeVar("Item", bound=View)
Part = TypeVar("Part", int, str)


class Query(BaseModel):
    """Query parameters of a route; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PageQuery(Query):
    """Which page; a list with filters derives from it and adds them as fields."""

    limit: int = Field(50, ge=1, le=MAX_ITEMS, description="items on a page, at most")
    cursor: str | None = Field(
        None, max_length=MAX_CURSOR, description="`next` of the previous page, with the same filters"
    )

    @property
    def position(self) -> Cursor:
        """Where the page begins.

        Raises:
            RequestError: the cursor is none that this list gave with these filters.
        """
        parts = self.parts
        if parts is None:
            return None
        try:
            moment, name = map(str, parts)
            time = datetime.fromisoformat(moment)
        except ValueError:
            raise refused() from None
        if time.tzinfo is None or not name.isprintable():
            raise refused()
        return time, name

    @property
    def parts(self) -> list[object] | None:
        """What the cursor holds, for lists in another order than the newest first."""
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            scope, *parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError, TypeError, RecursionError):
            raise refused() from None
        if scope != self._scope:
            raise refused()
        return list(parts)

    def after(self, kind: type[Part]) -> Part | None:
        """The last number or name of the page before, in lists that are in the order of one; ``None`` at first.

        Raises:
            RequestError: the cursor is none of this list.
        """
        parts = self.parts
        if parts is None:
            return None
        if len(parts) != 1 or not isinstance(parts[0], kind):
            raise refused()
        return parts[0]

    def page(self, items: Iterable[Item], cursor: Cursor) -> Page[Item]:
        """The page of ``items``, after which the list goes on at ``cursor``."""
        parts = None if cursor is None else [cursor[0].isoformat(), cursor[1]]
        return Page(items=tuple(items), next=self.encoded(parts))

    def encoded(self, parts: list[str] | list[int] | None) -> str | None:
        """A cursor that holds ``parts``."""
        if parts is None:
            return None
        text = json.dumps([self._scope, *parts], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @property
    def _scope(self) -> int:
        """Tells the cursors of this list and of these filters from others."""
        filters = self.model_dump(mode="json", exclude={"limit", "cursor"})
        return zlib.crc32(json.dumps([type(self).__name__, filters], sort_keys=True).encode())


def refused() -> RequestError:
    """The error for an invalid cursor."""
    return RequestError(
        "is not a cursor of this list with these filters", field="cursor", remedy="begin again without a cursor"
    )
