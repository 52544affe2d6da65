"""What routes are given."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from autokv.api.responses import template
from autokv.api.views import Fleet
from autokv.api.waiting import Hub
from autokv.errors import RequestError
from autokv.settings import Settings
from autokv.storage import Database


def _of_application(name: str) -> Any:  # noqa: ANN401 - FastAPI's own declares it so
    async def kept(request: Request) -> Any:  # noqa: ANN401 - of what the application keeps
        return getattr(request.app.state, name)

    return Depends(kept)


DatabaseDep = Annotated[Database, _of_application("database")]
"""The database of the application."""
FleetDep = Annotated[Fleet, _of_application("fleet")]
"""The workers."""
HubDep = Annotated[Hub, _of_application("hub")]
"""Who waits for jobs."""
SettingsDep = Annotated[Settings, _of_application("settings")]
"""The settings that the application was made with."""
Id = Annotated[str, Path(pattern=r"^[0-9A-Za-z._-]{1,100}$", description="id")]
"""An id in a path; what no id looks like is refused before the database is asked."""


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that the route does not have: one that is misspelled must not be ignored.

    Raises:
        RequestError: naming the first.
    """
    if not request.query_params:
        return
    known = _parameters(request)
    for name in request.query_params:
        if name not in known:
            choice = f"this path takes {', '.join(sorted(known))}" if known else "this path takes no parameters"
            raise RequestError("is not a parameter", field=name, remedy=choice)


def _parameters(request: Request) -> frozenset[str]:
    """What the API's own description says that the route takes."""
    route = (template(request.scope) or "", request.method.lower())
    tables: dict[tuple[str, str], frozenset[str]] = request.app.state.parameters
    if route not in tables:
        described = request.app.openapi()["paths"].get(route[0], {}).get(route[1], {})
        taken = described.get("parameters", ())
        tables[route] = frozenset(parameter["name"] for parameter in taken if parameter["in"] == "query")
    return tables[route]
