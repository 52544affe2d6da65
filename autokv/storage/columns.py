"""Column types that mean the same on every database, and the database's clock."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Text
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

_NON_FINITE = "$float"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, always aware and in UTC; SQLite itself knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_now(FunctionElement[datetime]):  # noqa: N801 - spelled like the SQL function that it is
    """The database's clock, the only one that is stored; each kind of database spells it in its own module."""

    type = UtcDateTime()
    inherit_cache = True


class Document(TypeDecorator[Any]):
    """A JSON document that comes back equal.

    Python's ``None`` is NULL. NaN and infinities, which JSON lacks, are stored as ``{"$float": "nan"}``.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> object:
        return _encode(value)

    def process_result_value(self, value: object, dialect: Dialect) -> object:
        return _decode(value)

    def coerce_compared_value(self, op: object, value: object) -> TypeEngine[Any]:
        return self.impl_instance.coerce_compared_value(op, value)  # type: ignore[arg-type]


class Line(TypeDecorator[str]):
    """Text for a person. What no database holds (NUL, lone surrogates of odd file names) is stored escaped."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def fingerprint(value: object) -> str:
    """SHA-256, in hexadecimal, of a JSON document; equal documents have equal fingerprints."""
    return hashlib.sha256(json.dumps(_encode(value), sort_keys=True).encode()).hexdigest()


def _encode(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE: str(float(value))}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_encode(item) for item in value]
    return value


def _decode(value: object) -> object:
    if isinstance(value, dict):
        if value.keys() == {_NON_FINITE}:
            return float(value[_NON_FINITE])
        return {key: _decode(item) if isinstance(item, dict | list) else item for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) if isinstance(item, dict | list) else item for item in value]
    return value
