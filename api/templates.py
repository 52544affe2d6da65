"""The path of the route that a request came to, with the names of its parameters."""

from __future__ import annotations

from starlette.types import Scope

PREFIX = "/v1"


def template(scope: Scope) -> str | None:
    """``/v1/jobs/{job_id}``; ``None`` where no route fits the request."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return None
    # A route that a router brought may know its path without the prefix that it was included under.
    included = scope["path"].startswith(f"{PREFIX}/") and not path.startswith(f"{PREFIX}/")
    return f"{PREFIX}{path}" if included else str(path)
