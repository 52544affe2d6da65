"""``Configurations`` and ``Aliases``: what jobs found, and the names that stand for it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from autokv.client.methods import Bound, C, Method, call, every
from autokv.client.operation import Flow, Operation, model, nothing, page, path, text
from autokv.config import ConfigurationDocument
from autokv.documents import Format, format_of
from autokv.files import write_atomic
from autokv.wire import (
    AliasMove,
    AliasMoveRequest,
    AliasRollbackRequest,
    AliasView,
    ConfigurationView,
    ExportView,
    Page,
)


class Configurations(Bound[C]):
    """Measured configurations; they never change."""

    @call
    def get(self, configuration: str) -> Operation[ConfigurationView]:
        """A configuration by its id, or by how its digest begins; it never changes, so it is asked for once."""
        return Operation("GET", path("configurations", configuration), model(ConfigurationView), remembered=True)

    @call
    def text(self, configuration: str, *, format: Format = "json") -> Operation[str]:
        """A configuration's document, as text in a format."""
        return _document(path("configurations", configuration, "document"), format)

    @call
    def export(
        self, configuration: str, target: str, *, device: str | None = None, backend: str | None = None
    ) -> Operation[ExportView]:
        """A configuration for an engine: what changes, what is known to go wrong, and the engine's files."""
        params = {"target": target, "device": device, "backend": backend}
        return Operation("GET", path("configurations", configuration, "export"), model(ExportView), params=params)

    @every
    def list(
        self,
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

    @Method
    def download(self, configuration: str, file: str | Path) -> Flow[Path]:
        """Write a configuration's document to a file, whole or not at all; as YAML where its suffix says so.

        Raises:
            NotFoundError: the server has no such configuration.
            StorageError: the file cannot be written.
        """
        found = yield from Configurations.text.flow(self, configuration, format=format_of(file))
        return write_atomic(file, found)


class Aliases(Bound[C]):
    """Names that stand for configurations."""

    @call
    def get(self, name: str) -> Operation[AliasView]:
        """Where an alias points."""
        return Operation("GET", path("aliases", name), model(AliasView))

    @every
    def list(self, *, limit: int | None = None) -> Operation[Page[AliasView]]:
        """Every alias."""
        return Operation("GET", path("aliases"), page(AliasView), params={"limit": limit})

    @call
    def configuration(self, name: str) -> Operation[ConfigurationDocument]:
        """The configuration that an alias stands for; while it is the same, only its ETag travels."""
        accept = {"Accept": "application/json"}
        where = path("aliases", name, "configuration")
        return Operation("GET", where, model(ConfigurationDocument), headers=accept, remembered=True)

    @call
    def text(self, name: str, *, format: Format = "json") -> Operation[str]:
        """The document that an alias stands for, as text in a format."""
        return _document(path("aliases", name, "configuration"), format)

    @every
    def history(self, name: str, *, limit: int | None = None) -> Operation[Page[AliasMove]]:
        """Every move of an alias, the newest first."""
        return Operation("GET", path("aliases", name, "history"), page(AliasMove), params={"limit": limit})

    @call
    def create(self, name: str, configuration: str, *, note: str = "") -> Operation[AliasView]:
        """Make an alias that is not there yet."""
        body = AliasMoveRequest(configuration=configuration, note=note)
        return _write("PUT", path("aliases", name), body, {"If-None-Match": "*"})

    @call
    def move(self, name: str, configuration: str, *, revision: int, note: str = "") -> Operation[AliasView]:
        """Point an alias elsewhere; refused where it is not at ``revision`` any more."""
        body = AliasMoveRequest(configuration=configuration, note=note)
        return _write("PUT", path("aliases", name), body, _match(revision))

    @call
    def roll_back(self, name: str, *, revision: int, to: int | None = None, note: str = "") -> Operation[AliasView]:
        """Point an alias where it pointed at revision ``to``, or before its last move; ``revision`` as for a move."""
        body = AliasRollbackRequest(revision=to, note=note)
        return _write("POST", path("aliases", name, "rollback"), body, _match(revision))

    @call
    def delete(self, name: str, *, revision: int) -> Operation[None]:
        """Delete an alias; its configurations stay."""
        return Operation("DELETE", path("aliases", name), nothing, headers=_match(revision), repeatable=False)

    @Method
    def download(self, name: str, file: str | Path) -> Flow[Path]:
        """Write what an alias stands for to a file, as :meth:`Configurations.download` does."""
        found = yield from Aliases.text.flow(self, name, format=format_of(file))
        return write_atomic(file, found)


def _document(where: str, format: Format) -> Operation[str]:
    return Operation("GET", where, text, params={"format": format}, remembered=True)


def _write(method: str, where: str, body: BaseModel, headers: dict[str, str]) -> Operation[AliasView]:
    return Operation(method, where, model(AliasView), headers=headers, json=body.model_dump(), repeatable=False)


def _match(revision: int) -> dict[str, str]:
    return {"If-Match": f'"{revision}"'}
