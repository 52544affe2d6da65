"""Names that the shell completes. Loads without torch.

Ids come from the database that the command would read, where it is a file that is there, or from its server, if that
answers at once. Whatever fails completes to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from autokv.client import Client

RECENT = 50
"""Jobs and configurations that are offered, at most."""
FILE_SECONDS = 0.2
"""That a database may be locked."""
SERVER_SECONDS = 1.0
"""That a server may take."""

Named = tuple[str, str]
"""An id, and what it stands for."""


def _beginning(names: Callable[[], Iterable[str]], suffix: str = "") -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        """The names that begin as what is typed so far."""
        return [f"{name}{suffix}" for name in names() if name.startswith(incomplete)]

    return complete


def among(choices: Iterable[str]) -> Callable[[str], list[str]]:
    """Completes to one of ``choices``."""
    return _beginning(lambda: choices)


def _spaces() -> Iterable[str]:
    from autokv.search_spaces import names

    return names()


def _scenarios() -> Iterable[str]:
    from autokv.workload.scenarios import SCENARIOS

    return SCENARIOS


def _devices() -> Iterable[str]:
    from autokv.hardware import catalog

    return catalog.sheets()


def _metrics() -> Iterable[str]:
    from autokv.evaluation.metrics import METRICS

    return METRICS


def _models() -> Iterable[str]:
    from autokv import settings
    from autokv.models.offered import offered

    return (model.name for model in offered(settings.current()))


def _rows(context: typer.Context, query: str) -> list[Named]:
    """What ``query`` finds in a SQLite file, read as it is: the library that storage uses takes a second to load."""
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    from autokv import settings

    url = context.params.get("database") or settings.current().database_url
    file = Path(url.removeprefix("sqlite:///")).resolve()
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=FILE_SECONDS)) as database:
        return database.execute(f"{query} ORDER BY created_at DESC LIMIT {RECENT}").fetchall()


def _client(context: typer.Context) -> Client | None:
    """A client of the server that the command would ask; ``None`` where it would read a database."""
    from autokv import settings

    asked = context.params
    url = asked.get("server") or (None if asked.get("database") else settings.current().server_url)
    if "server" not in asked or url is None:
        return None
    from autokv.client import Client

    return Client(url, timeout=SERVER_SECONDS, retries=0)


def _stored(query: str, listed: Callable[[Client], Iterable[Named]]) -> Callable[[typer.Context, str], list[Named]]:
    """Completes to what ``query`` finds in the database, or to what is ``listed`` by the server."""

    def complete(context: typer.Context, incomplete: str) -> list[Named]:
        """The ids that begin as what is typed so far, each once."""
        with suppress(Exception):
            client = _client(context)
            if client is None:
                found = _rows(context, query)
            else:
                with client:
                    found = list(islice(listed(client), RECENT))
            return list({name: (name, what) for name, what in found if name.startswith(incomplete)}.values())
        return []

    return complete


job = _stored(
    "SELECT id, state FROM jobs",
    lambda client: ((one.id, f"{one.state}, {one.request['model']}") for one in client.jobs.list(limit=RECENT)),
)
configuration = _stored(
    "SELECT substr(digest, 1, 12), 'of job ' || job_id FROM configurations",
    lambda client: ((one.id, ", ".join(one.roles)) for one in client.configurations.list(limit=RECENT)),
)
alias = _stored(
    "SELECT name, configuration FROM aliases",
    lambda client: ((one.name, one.configuration) for one in client.aliases.list(limit=RECENT)),
)
model = _beginning(_models)
space = _beginning(_spaces)
scenario = _beginning(_scenarios)
hardware = _beginning(lambda: ("here", *_devices()))
run_on = _beginning(lambda: ("any", *_devices()))
metric = _beginning(_metrics)
bound = _beginning(_metrics, "=")
slo = _beginning(lambda: ("ttft_ms", "tpot_ms"), "=")
device = _beginning(lambda: ("auto", "cpu", "cuda", "cuda:0"))
