"""Operations on configurations, recommendations and aliases."""

from __future__ import annotations

from typing import Any

from autokv.client.operation import Operation, model, nothing, page, path, text
from autokv.config import ConfigurationDocument
from autokv.documents import Format
from autokv.wire import (
    AliasMove,
    AliasMoveRequest,
    AliasRollbackRequest,
    AliasView,
    ConfigurationView,
    Page,
    Recommendation,
)


def pages(
    *,
    job: str | None = None,
    role: str | None = None,
    digest: str | None = None,
    model: str | None = None,
    limit: int | None = None,
) -> Operation[Page[ConfigurationView]]:
    """Configurations, the newest first."""
    params = {"job": job, "role": role, "digest": digest, "model": model, "limit": limit}
    return Operation("GET", path("configurations"), page(ConfigurationView), params=params)


def get(configuration: str) -> Operation[ConfigurationView]:
    """A configuration by its id, or by how its digest begins; it never changes, so it is asked for once."""
    return Operation("GET", path("configurations", configuration), model(ConfigurationView), remembered=True)


def text_of(configuration: str, *, format: Format = "json") -> Operation[str]:
    """A configuration's document, as text in a format."""
    return _document(path("configurations", configuration, "document"), format)


def recommended(
    *, model: str, hardware: str | None = None, workload: str | None = None, limit: int | None = None
) -> Operation[Page[Recommendation]]:
    """What is known for a model, a device and a workload, the closest match first."""
    params = {"model": model, "hardware": hardware, "workload": workload, "limit": limit}
    return Operation("GET", path("recommendations"), page(Recommendation), params=params)


def aliases(*, limit: int | None = None) -> Operation[Page[AliasView]]:
    """Every alias."""
    return Operation("GET", path("aliases"), page(AliasView), params={"limit": limit})


def alias(name: str) -> Operation[AliasView]:
    """Where an alias points."""
    return Operation("GET", path("aliases", name), model(AliasView))


def aliased(name: str) -> Operation[ConfigurationDocument]:
    """The configuration that an alias stands for; while it is the same, only its ETag travels."""
    accept = {"Accept": "application/json"}
    where = path("aliases", name, "configuration")
    return Operation("GET", where, model(ConfigurationDocument), headers=accept, remembered=True)


def aliased_text(name: str, *, format: Format = "json") -> Operation[str]:
    """The document that an alias stands for, as text in a format."""
    return _document(path("aliases", name, "configuration"), format)


def history(name: str, *, limit: int | None = None) -> Operation[Page[AliasMove]]:
    """Every move of an alias, the newest first."""
    return Operation("GET", path("aliases", name, "history"), page(AliasMove), params={"limit": limit})


def create(name: str, configuration: str, *, note: str = "") -> Operation[AliasView]:
    """Make an alias that is not there yet."""
    return _put(name, configuration, note, {"If-None-Match": "*"})


def move(name: str, configuration: str, *, revision: int, note: str = "") -> Operation[AliasView]:
    """Point an alias elsewhere; refused where it is not at ``revision`` any more."""
    return _put(name, configuration, note, _match(revision))


def roll_back(name: str, *, revision: int, to: int | None = None, note: str = "") -> Operation[AliasView]:
    """Point an alias where it pointed at revision ``to``, or before its last move; ``revision`` as for a move."""
    body = AliasRollbackRequest(revision=to, note=note)
    return _write("POST", path("aliases", name, "rollback"), body.model_dump(), _match(revision))


def delete(name: str, *, revision: int) -> Operation[None]:
    """Delete an alias; its configurations stay."""
    return Operation("DELETE", path("aliases", name), nothing, headers=_match(revision), repeatable=False)


def _document(where: str, format: Format) -> Operation[str]:
    return Operation("GET", where, text, params={"format": format}, remembered=True)


def _put(name: str, configuration: str, note: str, headers: dict[str, str]) -> Operation[AliasView]:
    body = AliasMoveRequest(configuration=configuration, note=note)
    return _write("PUT", path("aliases", name), body.model_dump(), headers)


def _write(method: str, where: str, body: dict[str, Any], headers: dict[str, str]) -> Operation[AliasView]:
    return Operation(method, where, model(AliasView), headers=headers, json=body, repeatable=False)


def _match(revision: int) -> dict[str, str]:
    return {"If-Match": f'"{revision}"'}
