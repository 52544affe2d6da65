"""Opening a database by its URL, and saying in one line what went wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from autokv.errors import RequestError, StorageError, UnavailableError
from autokv.storage import postgresql, sqlite
from autokv.storage.backend import Backend

BACKENDS: dict[str, Backend] = {"sqlite": sqlite, "postgresql": postgresql}
DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
EXAMPLES = f"{sqlite.EXAMPLE_URL} or {postgresql.EXAMPLE_URL}"
_SECRETS = ("password", "sslpassword")
_HIDDEN = "***"


def parse(url: str) -> tuple[URL, Backend]:
    """The parts of a database's URL, with the driver that is used, and its kind.

    Raises:
        StorageError: it is malformed, or of a database that is not supported.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        raise StorageError("is not a database URL", field=shown(url), remedy=f"write it as in {EXAMPLES}") from None
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise StorageError(
            f"databases of the kind {parsed.drivername!r} are not supported",
            field=shown(url),
            remedy=f"use SQLite or PostgreSQL, as in {EXAMPLES}",
        )
    return parsed.set(drivername=driver), BACKENDS[driver.partition("+")[0]]


def shown(url: str) -> str:
    """``url`` as it may be printed: without passwords."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):
        return re.sub(r":[^:/@]*@", f":{_HIDDEN}@", url)
    secret = {name: _HIDDEN for name in _SECRETS if name in parsed.query}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


@contextmanager
def translated(url: URL, backend: Backend, field: str) -> Iterator[None]:
    """Turn what SQLAlchemy and the driver raise into one line for a person, which begins with ``field``.

    Raises:
        ConflictError: the database refused what contradicts what it holds.
        UnavailableError: it cannot be reached, is locked, is full, or has no connection left; nothing is lost.
        RequestError: a value is one that the database cannot hold.
        StorageError: it could not do what was asked for another reason.
    """
    try:
        yield
    except exc.DBAPIError as error:
        trouble = backend.explain(error.orig)
        raise trouble.error(_without_secrets(trouble.message, url), field=field, remedy=trouble.remedy) from error
    except (OverflowError, UnicodeEncodeError) as error:
        raise RequestError(f"a value cannot be stored ({error})", remedy="use another one") from error
    except exc.TimeoutError as error:
        raise UnavailableError("every connection is in use", field=field, remedy="try again in a moment") from error


def _without_secrets(message: str, url: URL) -> str:
    secrets = [url.password, *(url.query.get(name) for name in _SECRETS)]
    for secret in filter(None, secrets):
        message = message.replace(str(secret), _HIDDEN)
    return message
